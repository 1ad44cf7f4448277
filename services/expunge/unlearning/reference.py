"""Texts whose next-token distributions must stay what they are now."""

from __future__ import annotations

import random
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from expunge.unlearning.losses import divergence
from expunge.unlearning.rows import head_logits, hidden_states, pack_rows
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

    def __add__(self, other: Reference) -> Reference:
        return Reference(self.sequences + other.sequences, self.hidden + other.hidden)

    def draw(self, source: random.Random, count: int) -> list[int]:
        """Indices of `count` different sequences (all where there are fewer)."""
        return source.sample(range(len(self)), min(count, len(self)))

    def terms(self, model: PreTrainedModel, chosen: SequenceOf[int]) -> Iterator[Tensor]:
        """Mean KL(before ‖ now) over all answer tokens of the chosen sequences, each row's share of it."""
        sequences = [self.sequences[index] for index in chosen]
        total = sum(len(sequence.answer) for sequence in sequences)
        for row in pack_rows(sequences):
            logits = head_logits(model, hidden_states(model, row))
            yield (
                divergence(
                    self.targets(model, [chosen[member] for member in row.members.tolist()], row.offsets),
                    logits,
                ).sum()
                / total
            )

    @torch.no_grad()
    def targets(self, model: PreTrainedModel, members: SequenceOf[int], offsets: Tensor) -> Tensor:
        """The recorded distributions at answer places (member, offset), [places, vocabulary]."""
        hidden = torch.stack(
            [self.hidden[member][offset] for member, offset in zip(members, offsets.tolist(), strict=True)]
        )
        return torch.softmax(head_logits(model, hidden).float(), dim=-1)
