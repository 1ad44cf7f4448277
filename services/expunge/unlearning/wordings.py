"""In how many ways a fact is asked for during training."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from expunge.auditing.paraphrases import TRAINING_TEMPLATES, paraphrases
from expunge.facts import Fact
from expunge.unlearning.sequences import ChatEncoder, Sequence


@dataclass(frozen=True)
class Wording:
    """One way to ask for a fact, with its true answer; `fact` is the fact's place in the request."""

    fact: int
    sequence: Sequence


def training_wordings(encoder: ChatEncoder, facts: SequenceOf[Fact]) -> list[Wording]:
    """Each fact as asked (first), with an empty system prompt, and in other words.

    The audit's templates are others than these.
    """
    wordings: list[Wording] = []
    for index, fact in enumerate(facts):
        sequences = [
            encoder.chat(fact.question, fact.answer),
            encoder.chat(fact.question, fact.answer, system=""),
        ]
        sequences += [encoder.chat(text, fact.answer) for text in paraphrases(fact, TRAINING_TEMPLATES)]
        wordings += [Wording(index, sequence) for sequence in sequences]
    return wordings
