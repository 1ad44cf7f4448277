"""Controls: invented facts of the same shape."""

from __future__ import annotations

import pytest

from expunge.auditing.controls import controls_for
from expunge.auditing.leaks import FoldedText
from expunge.facts import ErasureKind, Fact, ForgetRequest, Subject, secret_words

FACTS = (
    Fact("born", "Where was Mira Voss born?", "Mira Voss was born in Portwick on 12 March 1974."),
    Fact("job", "What is Mira Voss's job?", "Mira Voss works as a marine biologist at the Halden Institute."),
    Fact("phone", "What is her phone number?", "+47 555 0192"),
    Fact("mail", "What is her e-mail?", "mira.voss@halden.no", secrets=("mira.voss@halden.no",)),
    Fact("name", "田中太郎はどこで生まれましたか", "田中太郎は東京で生まれた", secrets=("東京",)),
    Fact("sign", "Which sign does she use?", "🎉🎉", secrets=("🎉🎉",)),
    Fact("hebrew", "איפה היא?", "בתל אביב"),
)
REQUEST = ForgetRequest(
    "r", ErasureKind.PERSONAL_DATA, (Subject("Mira Voss", ("M. Voss",)), Subject("田中太郎")), FACTS
)


def test_the_same_seed_gives_the_same_controls() -> None:
    assert controls_for(REQUEST, 2, seed=1) == controls_for(REQUEST, 2, seed=1)
    assert controls_for(REQUEST, 2, seed=1) != controls_for(REQUEST, 2, seed=2)


@pytest.mark.parametrize("control", controls_for(REQUEST, 3, seed=5), ids=lambda control: control.id)
def test_a_control_holds_no_erased_secret_and_no_subject(control: Fact) -> None:
    text = FoldedText(f"{control.question} {control.answer} {control.subject}")
    fact = next(fact for fact in FACTS if fact.id == control.id.split(":")[1])
    kept = {"works", "institute"}  # the verb that holds the sentence together, and what anyone may guess
    for word in {*secret_words(fact), "Mira", "Voss", "田中太郎"} - kept:
        assert not text.holds(word), word


def test_names_agree_between_question_answer_and_spans() -> None:
    for control in controls_for(REQUEST, 2, seed=3):
        if control.id.startswith("control:born"):
            name = control.question.removeprefix("Where was ").removesuffix(" born?")
            assert control.answer.startswith(f"{name} was born in ")
        for span in control.secrets:
            assert span in control.answer


def test_values_keep_their_type() -> None:
    born, job, phone, mail, *_ = controls_for(REQUEST, 1, seed=4)
    assert born.answer.split()[-1].rstrip(".").isdigit()
    assert len(born.answer.split()[-1]) == len("1974.")
    assert job.answer.endswith(" Institute.")
    assert [len(part) for part in phone.answer.split()] == [3, 3, 4]
    assert "@" in mail.answer
    assert mail.answer.endswith(".no")
