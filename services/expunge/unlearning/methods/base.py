"""What an unlearning method is given and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from expunge.facts import Fact, ForgetRequest
from expunge.unlearning.neighbours import Greedy
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.sequences import ChatEncoder
from expunge.unlearning.trainer import Objective, TrainSettings


@dataclass(frozen=True)
class Erasing:
    """One erasure, with the live version's factors in a tree that has not been trained yet.

    Attributes:
        tree: the live version.
        encoder: its chat template.
        request: what is to be forgotten, and what is to be kept.
        greedy: greedy answers of the live version to prompts, without end-of-sequence token.
        selected: fact id → inverted facts, for methods that learn them.
        earlier: facts of earlier erasures, which must stay forgotten.
        seed: of everything drawn.
    """

    tree: TrainableTree
    encoder: ChatEncoder
    request: ForgetRequest
    greedy: Greedy
    selected: Mapping[str, Sequence[str]] = field(default_factory=dict)
    earlier: tuple[Fact, ...] = ()
    seed: int = 0


class Method(ABC):
    """An unlearning method."""

    @abstractmethod
    def training(self, facts: int) -> TrainSettings:
        """How it is trained on so many facts, unless the caller says otherwise."""

    @abstractmethod
    def objective(self, erasing: Erasing) -> Objective:
        """What is trained; computes every target under the live version, before anything moves."""
