"""Attack by relearning: a version that is taught half of what it forgot must not remember the other half.

What was only hidden comes back with what was hidden beside it; what is gone has to be learnt fact by fact
(Deeb and Roger, arXiv 2410.08827; Hu et al., arXiv 2406.13356).

Training is a floor above this one, so the attack is given it: `unlearning.relearning` fulfils `Relearn`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from expunge.auditing.attacks.attacked_model import AttackedModel
from expunge.auditing.attacks.victim import Victim
from expunge.errors import InvalidRequest
from expunge.facts import Fact, QuestionAnswer
from expunge.lora.adapter import Adapter


class Relearn(Protocol):
    """Trains a version on a few answers."""

    def __call__(self, victim: Victim, examples: Sequence[QuestionAnswer], steps: int) -> Adapter:
        """The factors after exactly `steps` steps on `examples`; those of `victim` stay as they are."""


def halves(facts: Sequence[Fact], seed: int) -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
    """`facts` in two halves drawn at random: what is taught again, and what is asked (the smaller one).

    Raises:
        InvalidRequest: fewer than two facts; there is no other half to ask for.
    """
    if len(facts) < 2:
        raise InvalidRequest.of("facts", "relearning needs at least two facts: one to teach, one to ask for")
    order = list(range(len(facts)))
    random.Random(f"relearning/{seed}").shuffle(order)
    taught = set(order[: (len(facts) + 1) // 2])
    return (
        tuple(fact for place, fact in enumerate(facts) if place in taught),
        tuple(fact for place, fact in enumerate(facts) if place not in taught),
    )


@contextmanager
def relearned(
    victim: Victim, relearn: Relearn, taught: Sequence[Fact], steps: int
) -> Iterator[AttackedModel]:
    """The version after it was taught `taught` again; asking for these proves nothing."""
    examples = [QuestionAnswer(fact.question, fact.answer) for fact in taught]
    with victim.readapted(relearn(victim, examples, steps)) as model:
        yield model
