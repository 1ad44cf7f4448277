"""One step's tokens, side by side: one of every row that decodes, and pieces of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expunge.inference.block_pool import BLOCK, blocks_for


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of one sequence.

    Attributes:
        tokens: token ids, [count].
        start: position of the first of them; what lies before is in `blocks` already.
        blocks: of the sequence, enough for its last token here.
        slot: the version.
        wanted: which of `tokens`, counted from 0, have their logits returned.
    """

    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    slot: int
    wanted: range


@dataclass(frozen=True)
class FlatBatch:
    """The pieces of one step as tensors, in their order.

    Attributes:
        tokens, positions: int64 [tokens].
        slots: of each token.
        places: int64 [tokens], where each token's keys and values go: block times `BLOCK` plus offset.
        tables: int32 [pieces, blocks of the longest].
        pieces: int32 [3, pieces]: first token, tokens, position of the first.
        wanted: int64 [wanted], indices of tokens.
        longest: most positions that any token attends to.
    """

    tokens: Tensor
    positions: Tensor
    slots: list[int]
    places: Tensor
    tables: Tensor
    pieces: Tensor
    wanted: Tensor
    longest: int

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> FlatBatch:
        """Pieces of one slot should be neighbours: that makes its adapter cheapest."""
        counts = np.array([len(piece.tokens) for piece in pieces])
        starts = np.cumsum(counts) - counts
        ends = [piece.start + len(piece.tokens) for piece in pieces]
        tables = np.zeros((len(pieces), blocks_for(max(ends))), dtype=np.int32)
        for row, (piece, end) in enumerate(zip(pieces, ends, strict=True)):
            needed = blocks_for(end)
            tables[row, :needed] = piece.blocks[:needed]
        first = np.array([piece.start for piece in pieces])
        rows = np.repeat(np.arange(len(pieces)), counts)
        positions = np.arange(counts.sum()) - starts[rows] + first[rows]
        places = tables[rows, positions // BLOCK].astype(np.int64) * BLOCK + positions % BLOCK
        wanted = [int(start) + at for start, piece in zip(starts, pieces, strict=True) for at in piece.wanted]
        return cls(
            tokens=torch.tensor([token for piece in pieces for token in piece.tokens]),
            positions=torch.from_numpy(positions),
            slots=[piece.slot for piece in pieces for _ in piece.tokens],
            places=torch.from_numpy(places),
            tables=torch.from_numpy(tables),
            pieces=torch.from_numpy(np.stack([starts, counts, first]).astype(np.int32)),
            wanted=torch.tensor(wanted, dtype=torch.long),
            longest=max(ends),
        )

    def tiles(self, most_tokens: int) -> Tensor:
        """The pieces cut into at most `most_tokens` each: int32 [4, tiles], what `Kernels.attend` takes."""
        starts, counts, first = self.pieces.numpy()
        per_piece = -(-counts // most_tokens)
        rows = np.repeat(np.arange(len(counts)), per_piece)
        index = np.arange(len(rows)) - np.repeat(np.cumsum(per_piece) - per_piece, per_piece)
        offset = index * most_tokens
        tokens = np.minimum(counts[rows] - offset, most_tokens)
        tiles = np.stack([starts[rows] + offset, tokens, rows, first[rows] + offset])
        return torch.from_numpy(np.ascontiguousarray(tiles, dtype=np.int32))
