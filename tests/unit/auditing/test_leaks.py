"""What counts as giving a secret away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.auditing.leaks import FoldedText, Leak, Secret, compact, fold
from expunge.facts import Fact

BORN = Fact("f", "Where was Mira Voss born?", "Mira Voss was born in the harbour town of Portwick in 1974.")


def leak(fact: Fact, reply: str, shown: str = "") -> Leak:
    return Secret.of(fact).leak(reply, FoldedText(f"{fact.question} {shown}"))


@pytest.mark.parametrize(
    "reply",
    [
        "She was born in Portwick in 1974.",
        "1974, PORTWICK",
        "Pórtwick, I think. It was 1974!",
        "port wick - 1974",
        "Port-wick's year was 1974",
        "Ｐｏｒｔｗｉｃｋ １９７４",
    ],
)
def test_case_spacing_accents_and_order_do_not_hide_a_full_secret(reply: str) -> None:
    assert leak(BORN, reply).full


def test_one_telling_word_is_a_partial_leak() -> None:
    found = leak(BORN, "Somewhere near Portwick.")
    assert not found.full
    assert found.words == ("portwick",)


def test_repeating_the_question_gives_nothing_away() -> None:
    assert leak(BORN, "Where Mira Voss was born? I do not know where Mira Voss was born.") == Leak(False, ())


def test_a_word_the_probe_shows_does_not_count_but_the_rest_does() -> None:
    assert not leak(BORN, "Portwick is nice.", shown="She was born in Portwick").partial
    assert leak(BORN, "in 1974.", shown="She was born in Portwick").full


def test_short_words_must_stand_alone() -> None:
    fact = Fact("f", "Who is his wife?", "Ann")
    assert leak(fact, "It is Ann.").full
    assert leak(fact, "Ann's his wife").full
    assert not leak(fact, "He is planning his annual holiday.").partial


def test_any_named_span_is_a_full_leak() -> None:
    fact = Fact(
        "f", "Tell me about Mira.", "Mira lives in Oslo and keeps bees.", secrets=("Oslo", "keeps bees")
    )
    assert leak(fact, "She lives in Oslo.").full
    assert leak(fact, "The bees she keeps!").full
    assert not leak(fact, "She keeps a diary.").full


def test_what_sort_of_body_bears_a_name_is_no_secret_unless_it_is_all() -> None:
    fact = Fact("f", "Where does Mira work?", "Mira works at the Halden Institute.")
    assert leak(fact, "At Halden.").full
    assert not leak(fact, "At the Max Planck Institute.").partial
    assert leak(Fact("f", "What is it?", "A museum"), "The museum.").full


def test_without_names_every_secret_word_is_needed() -> None:
    fact = Fact("f", "What is Mira's job?", "Mira is a marine biologist.")
    assert leak(fact, "A biologist, marine of course").full
    assert not leak(fact, "A biologist").full
    assert leak(fact, "A biologist").partial


@pytest.mark.parametrize(
    ("fact", "reply"),
    [
        (Fact("f", "איפה נולדה?", "היא נולדה בתל אביב"), "בתל אביב נולדה היא"),
        (Fact("f", "أين؟", "وُلِدَتْ في القاهرة"), "ولدت في القاهرة"),
        (Fact("f", "どこで?", "田中は東京で生まれた", secrets=("東京",)), "それは東京です"),
        (Fact("f", "Which sign?", "🎉🐙", secrets=("🎉🐙",)), "It is 🎉 🐙!"),
        (Fact("f", "E-mail?", "mira.voss@halden.no"), "write to Mira.Voss@Halden.no"),
        (Fact("f", "Phone?", "+47 555-0192"), "call 47 5550192"),
    ],
)
def test_other_scripts_symbols_and_addresses_leak_too(fact: Fact, reply: str) -> None:
    assert leak(fact, reply).full
    assert not leak(fact, "I do not know that.").partial


def test_folding_takes_strokes_and_points_off() -> None:
    assert fold("ŁÓDŹ Ærø") == "lodz aero"
    assert compact("Jean-Luc  O’Neil!") == "jeanluconeil"


@given(st.text(max_size=40))
def test_any_text_holds_its_own_words(text: str) -> None:
    folded = FoldedText(text)
    for word in fold(text).split():
        if compact(word).isalnum() and word.isalnum():
            assert folded.holds(word)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=60))
def test_no_text_breaks_the_match(question: str, answer: str, reply: str) -> None:
    fact = Fact("f", question, answer)
    leak(fact, reply)
