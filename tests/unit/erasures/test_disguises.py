import pytest

from expunge.erasures.disguises import as_meant
from expunge.erasures.lookalikes import plain
from expunge.erasures.suppression import GuardBook
from expunge.facts import Subject
from expunge.registry.records import Guard

BOOK = GuardBook([Guard("marla", (Subject("Marla Quendrick"),), ("Where does Marla Quendrick live?",))])


@pytest.mark.parametrize(
    "prompt",
    [
        "M@rla Quendr!ck",
        "Quendr|ck",
        "Qu€ndrick",
        "where is qu€ndr!ck",
        "Quen&shy;drick",
        "Quen&amp;shy;drick",
        "&#81;uendrick",
        "Quen<b>drick",
        "<i>Qu</i><b class='x'>endrick</b>",
        "Quen<!-- a -->drick",
        "<Quendrick>",
        "<a href='/quendrick'>she</a>",
        "x = 'Quen'; y = 'drick'",
        "jo@quendrick.com",
        "".join(chr(0xE0000 + ord(char)) for char in "Quendrick"),
        "Que\U000e0041n\U000e0041drick",
    ],
)
def test_a_name_broken_up_by_symbols_or_mark_up_is_recognised(prompt: str) -> None:
    assert BOOK.match(prompt) == "marla"


@pytest.mark.parametrize(
    "disguised",
    [
        "\u051auendri\u0441k",
        "Que\u0578drick",
        "Que\u0548drick",
        "Q\u057dendrick",
        "Quendri\u03f2k",
        "Quendri\u03f9k",
        "Qu\u025bndrick",
        "Qu\u0190ndrick",
        "Quendric\u0199",
        "Quendric\u0198",
        "Quen\u0257rick",
        "Quen\u018arick",
        "Quend\u027eick",
        "Quen\u13a0rick",
        "Que\ua4e0drick",
        "Qu\u04bdndrick",
        "Qu\u0259ndrick",
    ],
)
def test_a_letter_that_looks_like_another_is_read_as_that(disguised: str) -> None:
    assert plain(disguised).casefold() == "quendrick"


@pytest.mark.parametrize("name", ["Петров Григорий", "Հովհաննիսյան", "Łukasz Þórðarson", "Əliyev"])
def test_look_alikes_are_the_same_in_either_case(name: str) -> None:
    assert plain(name.upper()).casefold() == plain(name.lower()).casefold()


@pytest.mark.parametrize(
    "text", ["Hello! How are you?", "5 + 4", "a < b > c", "$100", "tea & milk", "what | which", "100€"]
)
def test_ordinary_punctuation_needs_no_second_reading(text: str) -> None:
    assert as_meant(text) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "if (a < b && c > d) { x = y | z; }",
        "Write <b>bold</b> text in HTML.",
        "mail jo@example.com, cost: C$40 &copy; 2024",
        "Who are AT&T and Yahoo!Inc?",
    ],
)
def test_code_and_mark_up_about_others_are_answered(prompt: str) -> None:
    assert BOOK.match(prompt) is None
