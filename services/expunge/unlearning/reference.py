"""Texts whose next-token distributions must stay what they are now."""

from __future__ import annotations

import random
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from expunge.unlearning.losses import divergence
from expunge.unlearning.parts import Part, Places, Terms
from expunge.unlearning.rows import hidden_states, pack_rows
from expunge.unlearning.sequences import Sequence


@dataclass(frozen=True)
class Reference:
    """Sequences with the hidden states that predict their answers under the model as it was.

    Hidden states [answer, width] are kept in place of distributions [answer, vocabulary], which are
    a hundred times as large; the output head is not trained, so it gives the same distributions at any time.
    """

    sequences: tuple[Sequence, ...]
    hidden: tuple[Tensor, ...]

    @classmethod
    @torch.no_grad()
    def of(cls, model: PreTrainedModel, sequences: SequenceOf[Sequence]) -> Reference:
        """Record what `model` says now."""
        states: list[Tensor] = [torch.empty(0)] * len(sequences)
        for row in pack_rows(sequences):
            hidden = hidden_states(model, row)
            for member in row.present:
                states[member] = hidden[row.members == member].clone()
        return cls(tuple(sequences), tuple(states))

    def __len__(self) -> int:
        return len(self.sequences)

    def draw(self, source: random.Random, count: int) -> list[int]:
        """Indices of `count` different sequences (all where there are fewer)."""
        return source.sample(range(len(self)), min(count, len(self)))


class Kept(Part):
    """weight · mean KL(before ‖ now) over all answer tokens of some sequences of a reference.

    Args:
        name: of the loss.
        chosen: indices of the sequences.
    """

    def __init__(self, name: str, reference: Reference, chosen: SequenceOf[int], weight: float) -> None:
        self.sequences = [reference.sequences[index] for index in chosen]
        self._name = name
        self._hidden = [reference.hidden[index] for index in chosen]
        self._weight = weight / max(1, sum(len(sequence.answer) for sequence in self.sequences))

    def terms(self, places: Places) -> Terms:
        with torch.no_grad():
            before = torch.stack(
                [
                    self._hidden[member][offset]
                    for member, offset in zip(places.members.tolist(), places.offsets.tolist(), strict=True)
                ]
            )
            targets = torch.softmax(places.head(before), dim=-1)
        return Terms({self._name: self._weight * divergence(targets, places.head(places.hidden)).sum()})
