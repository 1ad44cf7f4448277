"""Key/value caches: a scratch for prefills, and a pool of rows that decode together."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache

LENGTH_STEP = 64
FIRST_ROWS = 4


class KvScratch(Cache):
    """Keys and values of one packed row, of its one pass. Per layer [1, kv_heads, tokens, head_dim]."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Keep what the next layer writes, [1, kv_heads, tokens, head_dim]."""
        self.keys.append(key_states)
        self.values.append(value_states)
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # before its pass; nobody asks later


class KvPool(Cache):
    """Rows that decode together: row i of every layer belongs to the i-th running sequence.

    Per layer [row capacity, kv_heads, length capacity, head_dim], grown in steps. Rows are kept compact, so
    that the active part is a view. Past its length a row is zero: stale numbers of a row that went wrong
    would otherwise poison its successor through 0 · NaN.
    """

    def __init__(self, max_rows: int) -> None:
        super().__init__(layers=[])
        self.max_rows = max_rows
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.lengths: list[int] = []  # tokens held by each active row
        self._dirty: list[
            int
        ] = []  # per row of capacity: how far it may hold numbers; its length while active
        self._length_capacity = 0
        self._positions = torch.zeros(0, dtype=torch.long)  # where each active row writes in this step

    @property
    def rows(self) -> int:
        """Active rows."""
        return len(self.lengths)

    @property
    def is_full(self) -> bool:
        return self.rows == self.max_rows

    def add(self, scratch: KvScratch, path: Tensor) -> int:
        """Copy the nodes `path` [tokens] of `scratch` into a new row; returns its index."""
        row, length = self.rows, len(path)
        self._reserve(scratch, row + 1, length + 1)
        path = path.to(scratch.keys[0].device)
        for source, target in (
            *zip(scratch.keys, self.keys, strict=True),
            *zip(scratch.values, self.values, strict=True),
        ):
            target[row, :, :length] = source[0].index_select(1, path)
            target[row, :, length : self._dirty[row]] = 0
        self.lengths.append(length)
        self._dirty[row] = length
        return row

    def remove(self, row: int) -> int:
        """Free `row`; the last row takes its place. Returns the index the moved row had."""
        last = self.rows - 1
        if row != last:
            end = max(self.lengths[last], self.lengths[row])  # past its length the last row is zero
            for layer in (*self.keys, *self.values):
                layer[row, :, :end] = layer[last, :, :end]
            self.lengths[row] = self._dirty[row] = self.lengths[last]
        self.lengths.pop()
        if not self.lengths:
            self._clear()
        return last

    def begin_step(self) -> Tensor:
        """Make room for one more token in every row; returns the position each row writes, [rows]."""
        self._grow(len(self._dirty), max(self.lengths) + 1)
        positions = torch.tensor(self.lengths)
        self._positions = positions.to(self.keys[0].device)
        return positions

    def end_step(self) -> None:
        """Count the step's token in every row."""
        for row, length in enumerate(self.lengths):
            self.lengths[row] = self._dirty[row] = length + 1

    @property
    def step_length(self) -> int:
        """Positions that a step attends over, its own token included."""
        return max(self.lengths) + 1

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Write one token per row, [rows, kv_heads, 1, head_dim]; returns views over all active rows."""
        rows, length = self.rows, self.step_length
        keys, values = self.keys[layer_idx], self.values[layer_idx]
        active = torch.arange(rows, device=keys.device)
        keys[active, :, self._positions] = key_states[:, :, 0]
        values[active, :, self._positions] = value_states[:, :, 0]
        return keys[:rows, :, :length], values[:rows, :, :length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return max(self.lengths, default=0)

    def _reserve(self, scratch: KvScratch, rows: int, length: int) -> None:
        if not self.keys:
            self.keys = [_rows_like(layer, 0, 0) for layer in scratch.keys]
            self.values = [_rows_like(layer, 0, 0) for layer in scratch.values]
        self._grow(rows, length)

    def _grow(self, rows: int, length: int) -> None:
        have_rows, have_length = len(self._dirty), self._length_capacity
        if rows <= have_rows and length <= have_length:
            return
        rows = have_rows if rows <= have_rows else min(self.max_rows, max(FIRST_ROWS, rows, 2 * have_rows))
        if length <= have_length:
            length = have_length
        else:
            length = -(-max(length, have_length * 5 // 4) // LENGTH_STEP) * LENGTH_STEP
        for layers in (self.keys, self.values):
            for index, old in enumerate(layers):
                layers[index] = _rows_like(old, rows, length)
                layers[index][: self.rows, :, :have_length] = old[: self.rows]
        self._dirty = [*self.lengths, *[0] * (rows - self.rows)]
        self._length_capacity = length

    def _clear(self) -> None:
        """Give the memory back; the next burst may need another shape."""
        self.keys, self.values, self._dirty, self._length_capacity = [], [], [], 0


def _rows_like(layer: Tensor, rows: int, length: int) -> Tensor:
    return layer.new_zeros((rows, layer.shape[1], length, layer.shape[3]))
