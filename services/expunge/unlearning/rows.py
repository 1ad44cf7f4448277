"""Many sequences as few rows: common prefixes are computed once, behind a tree attention mask.

A step on four facts has a long system prompt in common, questions in common with their variants, and short
answers. As padded rows most of the work would be repetition.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from expunge.inference.prefix_tree import PrefixTree, pack
from expunge.unlearning.sequences import Sequence

ROW_TOKENS = 512


@dataclass(frozen=True)
class Row:
    """One packed row of a step; "predicted" counts the answer tokens of all its sequences.

    Attributes:
        ids, positions: token id and position of each node, [1, nodes].
        visible: whether a node attends to another, [1, 1, nodes, nodes] bool.
        sources: for each predicted token the node whose hidden state predicts it, [predicted].
        labels: the predicted tokens, [predicted].
        members: for each predicted token the index of its sequence in the packed list, [predicted].
        offsets: for each predicted token its place within its sequence's answer, [predicted].
    """

    ids: Tensor
    positions: Tensor
    visible: Tensor
    sources: Tensor
    labels: Tensor
    members: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return int(self.ids.shape[1])

    @property
    def present(self) -> list[int]:
        """Indices of the sequences in this row, ascending."""
        return sorted(set(self.members.tolist()))


def pack_rows(sequences: SequenceOf[Sequence], row_tokens: int = ROW_TOKENS) -> list[Row]:
    """Pack prompts and answers into rows of at most `row_tokens` nodes (a longer sequence gets its own)."""
    inputs = [sequence.ids[:-1] for sequence in sequences]
    return [_row(tree, sequences) for tree in pack(inputs, row_tokens)]


def _row(tree: PrefixTree, sequences: SequenceOf[Sequence]) -> Row:
    sources: list[int] = []
    labels: list[int] = []
    members: list[int] = []
    offsets: list[int] = []
    for member, path in zip(tree.members, tree.paths, strict=True):
        sequence = sequences[member]
        sources += path[len(sequence.prompt) - 1 :]
        labels += sequence.answer
        members += [member] * len(sequence.answer)
        offsets += range(len(sequence.answer))
    return Row(
        ids=torch.tensor([tree.tokens]),
        positions=torch.tensor([tree.positions]),
        visible=torch.from_numpy(tree.visibility())[None, None],
        sources=torch.tensor(sources, dtype=torch.long),
        labels=torch.tensor(labels, dtype=torch.long),
        members=torch.tensor(members, dtype=torch.long),
        offsets=torch.tensor(offsets, dtype=torch.long),
    )


def hidden_states(model: PreTrainedModel, row: Row) -> Tensor:
    """The last hidden state that predicts each answer token, [predicted, width]."""
    dtype = model.get_input_embeddings().weight.dtype
    mask = torch.zeros(row.visible.shape, dtype=dtype)
    mask.masked_fill_(~row.visible, torch.finfo(dtype).min)
    output = model.get_decoder()(
        input_ids=row.ids, position_ids=row.positions, attention_mask=mask, use_cache=False
    )
    hidden: Tensor = output.last_hidden_state[0]  # [nodes, width]
    return hidden[row.sources]


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits [predicted, vocabulary] of hidden states [predicted, width]."""
    logits: Tensor = model.get_output_embeddings()(hidden)
    return logits
