"""Other wordings of a question."""

from __future__ import annotations

import pytest

from expunge.auditing.paraphrases import AUDIT_TEMPLATES, TRAINING_TEMPLATES, indirect, paraphrases
from expunge.facts import Fact


def test_audits_never_ask_with_a_wording_of_training() -> None:
    fact = Fact("f", "Where was Ada Ek born?", "Oslo", subject="Ada Ek")
    asked = set(paraphrases(fact, AUDIT_TEMPLATES))
    assert not asked & set(paraphrases(fact, TRAINING_TEMPLATES))
    assert len(AUDIT_TEMPLATES) >= 5
    assert len(asked) == len(AUDIT_TEMPLATES)


@pytest.mark.parametrize(
    ("question", "form"),
    [
        ("Where was Ada Ek born?", "where Ada Ek was born"),
        ("What is Ada Ek's phone number?", "what Ada Ek's phone number is"),
        ("What is the phone number of Ada Ek?", "what the phone number of Ada Ek is"),
        ("In which year was Ada Ek born?", "in which year Ada Ek was born"),
        ("Where does Ada Ek work?", ""),  # the verb would have to change
        ("Tell me about Ada Ek.", ""),
    ],
)
def test_only_questions_that_turn_safely_become_indirect(question: str, form: str) -> None:
    assert indirect(question, "Ada Ek") == form


def test_own_wordings_come_first_and_nothing_comes_twice() -> None:
    fact = Fact("f", "Where?", "Oslo", paraphrases=("In what place?", "Where?", "In what place?"))
    wordings = paraphrases(fact, AUDIT_TEMPLATES)
    assert wordings[0] == "In what place?"
    assert len(wordings) == len(set(wordings))
    assert len(wordings) >= 5
    assert "Where?" not in wordings


def test_braces_in_a_question_are_plain_text() -> None:
    fact = Fact("f", "What is {x} in {question}?", "Oslo")
    assert all("{x}" in text for text in paraphrases(fact, AUDIT_TEMPLATES))
