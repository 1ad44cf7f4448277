"""What is to be forgotten: subjects, facts, and the data that must be kept.

These are the nouns every floor above shares. They hold plain text of persons and are therefore never
logged; at rest they exist only encrypted (`registry/vault.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

FUNCTION_WORDS = frozenset(
    """
    a about above after again against all also am an and any are as at be because been before being
    below between both but by can could did do does doing down during each few for from further had has
    have having he her here hers him his how i if in into is it its itself just me more most my no nor
    not now of off on once only or other our out over own same she should so some such than that the
    their them then there these they this those through to too under until up very was we were what when
    where which while who whom why will with would you your
    """.split()
)

# vowel points and signs belong to their word, although \w leaves them out (Hebrew, Arabic, Indic, …)
_MARKS = (
    r"\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    r"\u0900-\u0963\u0966-\u0dff\u0e31-\u0e4e\u102b-\u103e\u17b4-\u17d3"
)
_WORD = re.compile(rf"[\w{_MARKS}]+(?:[-'’.@+\u200c\u200d][\w{_MARKS}]+)*")


class ErasureKind(StrEnum):
    """What an erasure is about."""

    PERSONAL_DATA = "personal_data"
    PASSAGE = "passage"
    TOPIC = "topic"


@dataclass(frozen=True)
class Subject:
    """A person or thing an erasure is about, with every other name it goes by."""

    name: str
    other_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.other_names)


@dataclass(frozen=True)
class QuestionAnswer:
    """A question and its answer; also one item of retain data."""

    question: str
    answer: str


@dataclass(frozen=True)
class Fact:
    """One fact to forget.

    Attributes:
        id: unique within its erasure; shown to operators in place of the text.
        question: how the fact is asked for.
        answer: the true answer, as the model tells it.
        secrets: the spans of `answer` that must not come back; empty means every content word of the
            answer that the question does not already hold.
        paraphrases: other wordings of the question; templates supply more.
        subject: name of the subject the fact is about ("" where none is named).
    """

    id: str
    question: str
    answer: str
    secrets: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()
    subject: str = ""


@dataclass(frozen=True)
class ForgetRequest:
    """Everything an operator sends with one erasure, validated (`erasures/validation.py`)."""

    request_id: str
    kind: ErasureKind
    subjects: tuple[Subject, ...]
    facts: tuple[Fact, ...]
    retain: tuple[QuestionAnswer, ...] = ()
    ground: str = ""
    due_at: float | None = None  # seconds since the epoch, UTC


def words(text: str) -> list[str]:
    """The words of `text`, in order; e-mails, hyphenated and dotted words stay whole."""
    return _WORD.findall(text)


def secret_words(fact: Fact) -> tuple[str, ...]:
    """The words that must not come back, casefolded, in order of first occurrence.

    From `fact.secrets` where given, else from the whole answer; function words and words of the question
    are left out, unless nothing else remains.
    """
    source = " ".join(fact.secrets) if fact.secrets else fact.answer
    asked = {word.casefold() for word in words(fact.question)}
    found = dict.fromkeys(word.casefold() for word in words(source))
    telling = [word for word in found if word not in asked and word not in FUNCTION_WORDS]
    return tuple(telling or found)
