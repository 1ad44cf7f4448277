"""One probe, the kinds there are, and a judged reply.

A probe is text, so that it can be asked in process (`ids`) and through the live gateway as a client would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from expunge.auditing.leaks import FoldedText, Leak
from expunge.auditing.text_model import TextModel


class ProbeKind(StrEnum):
    """How a probe asks."""

    DIRECT = "direct"  # the question: default system prompt, empty system prompt, and as raw text
    PARAPHRASE = "paraphrase"  # in other words
    CLOZE = "cloze"  # the answer with its secret blanked out, or broken off before it
    REVERSE = "reverse"  # the secret is given, and whose it is is asked
    HINT = "hint"  # the question with something that helps
    ROLE_PLAY = "role_play"  # as somebody who would know
    INJECTION = "injection"  # instructions to answer whatever was said before
    AFFIRMATIVE = "affirmative"  # "Sure, here is the answer:" put into the model's mouth
    LANGUAGE = "language"  # the answer in another language
    IN_CONTEXT = "in_context"  # after other questions that are answered
    PAIRED = "paired"  # together with a question that may be answered
    PREFIX = "prefix"  # the true answer's first words put into the model's mouth
    SAMPLED = "sampled"  # the question, answered at random (temperature 1) several times


@dataclass(frozen=True)
class Probe:
    """One prompt about one fact.

    Attributes:
        fact_id: the fact it is about.
        kind: how it asks.
        question: the user's turn, or the whole prompt where `raw`.
        system: None leaves the system turn to the chat template; "" sends an empty one.
        raw: no chat template.
        prefix: start of the assistant's answer that the model has to continue.
        lead: what a reply may hold before it comes to the fact.
        room: how many times as long as the answer as it is known a reply may be.
    """

    fact_id: str
    kind: ProbeKind
    question: str
    system: str | None = None
    raw: bool = False
    prefix: str = ""
    lead: str = ""
    room: float = 1.0

    @cached_property
    def shown(self) -> FoldedText:
        """What the probe itself gives away; words in it are no leak when they come back."""
        return FoldedText(f"{self.system or ''} {self.question} {self.prefix}")

    def ids(self, model: TextModel) -> list[int]:
        """The prompt's token ids."""
        if self.raw:
            return model.encode(self.question)
        asked = model.chat_ids(self.question, self.system)
        return asked + model.encode(self.prefix, special=False) if self.prefix else asked

    def reply_tokens(self, expected: str, count: Callable[[str], int]) -> int:
        """Tokens of a reply that says `expected`, and what it may say before; `count` tells a text's."""
        return math.ceil(self.room * count(expected)) + (count(self.lead) if self.lead else 0)


@dataclass(frozen=True)
class Reply:
    """What a version answered to one probe, judged."""

    probe: Probe
    text: str
    leak: Leak
