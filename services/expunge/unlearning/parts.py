"""What one training step consists of: parts, each with a loss of its own, packed into common rows.

A step that teaches, forgets and keeps has many short sequences under one system prompt. Packed together they
need fewer and larger matrix products than part by part, and their common prefixes are computed once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from expunge.unlearning.losses import cross_entropy
from expunge.unlearning.rows import ROW_TOKENS, head_logits, hidden_states, pack_rows
from expunge.unlearning.sequences import Sequence


@dataclass(frozen=True)
class Terms:
    """One row's share of a step.

    Attributes:
        losses: weighted loss terms; summed over rows and kinds they are the step's loss.
        peaks: figures that are not trained on; the step reports the largest of its rows.
    """

    losses: dict[str, Tensor]
    peaks: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Where a part's answer tokens are predicted in one row.

    Attributes:
        hidden: the hidden states that predict them, [places, width].
        labels: the tokens, [places].
        members: index of each one's sequence among the part's, [places].
        offsets: its place within that sequence's answer, [places].
        head: hidden states [n, width] → logits [n, vocabulary], fp32.
    """

    hidden: Tensor
    labels: Tensor
    members: Tensor
    offsets: Tensor
    head: Callable[[Tensor], Tensor]


class Part(ABC):
    """Some sequences of one step, and their loss."""

    sequences: SequenceOf[Sequence]

    @abstractmethod
    def terms(self, places: Places) -> Terms:
        """The share of the part's loss that lies in one row; names of losses are the part's own."""


class CrossEntropy(Part):
    """weight · CE, the mean over sequences of the mean over tokens (algorithms.md, section 1).

    Args:
        name: of the loss; "wrong", the tokens that are not the arg-max, is reported as a peak under `wrong`.
    """

    def __init__(
        self, name: str, sequences: SequenceOf[Sequence], weight: float = 1.0, wrong: str = ""
    ) -> None:
        self.sequences = sequences
        self._name = name
        self._weight = weight
        self._wrong = wrong

    def terms(self, places: Places) -> Terms:
        logits = places.head(places.hidden)
        share = len(torch.unique(places.members)) / len(self.sequences) * self._weight
        losses = {self._name: share * cross_entropy(logits, places.labels, places.members)}
        if not self._wrong:
            return Terms(losses)
        missed = int((logits.detach().argmax(dim=-1) != places.labels).sum())
        return Terms(losses, {self._wrong: missed})


def packed_terms(
    model: PreTrainedModel, parts: SequenceOf[Part], row_tokens: int = ROW_TOKENS
) -> Iterator[Terms]:
    """The terms of all `parts`, row by row; each row's graph is free once its terms are differentiated."""
    sequences = [sequence for part in parts for sequence in part.sequences]
    for row in pack_rows(sequences, row_tokens):
        hidden = hidden_states(model, row)
        terms = Terms({})
        start = 0
        for part in parts:
            end = start + len(part.sequences)
            mine = ((row.members >= start) & (row.members < end)).nonzero()[:, 0]
            if len(mine):
                found = part.terms(
                    Places(
                        hidden[mine],
                        row.labels[mine],
                        row.members[mine] - start,
                        row.offsets[mine],
                        lambda states: head_logits(model, states).float(),
                    )
                )
                terms.losses.update(found.losses)
                terms.peaks.update(found.peaks)
            start = end
        yield terms
