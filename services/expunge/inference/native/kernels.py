"""The kernels as functions on tensors: fp32, on the CPU, contiguous."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from expunge.inference.native.build import load_library
from expunge.lora.linear import RowTable

BLOCK = 16  # positions of one block of keys or values; also the numbers of one vector
MAX_QUERIES = 12  # of one tile and kv head
PANEL = 32  # outputs of a packed weight that lie together

_SIZE, _FLOAT = ctypes.c_int64, ctypes.c_float
_POINTER = ctypes.c_void_p


class Kernels:
    """Thin wrappers: whoever calls them answers for shapes, dtype and contiguity."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._rms_norm = _function(library.rms_norm, *[_POINTER] * 3, _SIZE, _SIZE, _FLOAT)
        self._silu_multiply = _function(library.silu_multiply, _POINTER, _POINTER, _SIZE)
        self._rotate = _function(library.rotate, *[_POINTER] * 3, *[_SIZE] * 3)
        self._write_kv = _function(library.write_kv, *[_POINTER] * 5, *[_SIZE] * 3)
        product = (*[_POINTER] * 3, *[_SIZE] * 3, *[_POINTER] * 2, *[_SIZE] * 2, _POINTER)
        self._multiply_fp32 = _function(library.multiply_fp32, *product)
        self._multiply_bf16 = _function(library.multiply_bf16, *product)
        self._attend = _function(
            library.attend,
            *[_POINTER] * 5,
            _SIZE,
            *[_POINTER] * 4,
            *[_SIZE] * 5,
            _FLOAT,
            result=ctypes.c_int,
        )

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x [..., width] / sqrt(mean(x²) + eps) · weight (arXiv 1910.07467); width a multiple of `BLOCK`."""
        out = torch.empty_like(x)
        width = x.shape[-1]
        self._rms_norm(x.data_ptr(), weight.data_ptr(), out.data_ptr(), x.numel() // width, width, eps)
        return out

    def silu_multiply(self, gate: Tensor, up: Tensor) -> Tensor:
        """gate ← gate · sigmoid(gate) · up, in place (arXiv 2002.05202); numbers a multiple of `BLOCK`."""
        self._silu_multiply(gate.data_ptr(), up.data_ptr(), gate.numel())
        return gate

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Rotary embedding (arXiv 2104.09864) of x [tokens, heads, width], in place.

        cos, sin [tokens, width]; width a multiple of 2 · `BLOCK`.
        """
        tokens, heads, width = x.shape
        self._rotate(x.data_ptr(), cos.data_ptr(), sin.data_ptr(), tokens, heads, width)

    def write_kv(
        self, keys: Tensor, values: Tensor, key_pool: Tensor, value_pool: Tensor, places: Tensor
    ) -> None:
        """Put keys, values [tokens, kv_heads, head_dim] at `places` [tokens] of their pools."""
        self._write_kv(
            keys.data_ptr(),
            values.data_ptr(),
            key_pool.data_ptr(),
            value_pool.data_ptr(),
            places.data_ptr(),
            *keys.shape,
        )

    def multiply(
        self, x: Tensor, layers: Tensor, widths: int, is_half: bool, table: RowTable | None
    ) -> Tensor:
        """Layers that share their input x [tokens, 1, in], each with what the adapters of its tokens add.

        An adapter adds x Aᵀ B (arXiv 2106.09685).

        Args:
            layers: int64 [layers, 4]: address of a packed weight, of its bias (0: none), its outputs, and the
                layer's index in `table`.
            widths: outputs of all layers together.
            is_half: the weights are in bfloat16, not in fp32.
            table: the tokens' adapters; then all widths are multiples of `BLOCK`.

        Returns:
            the outputs [tokens, out] of each layer, one after the other, and numbers of no meaning.
        """
        rows, width = len(x), x.shape[-1]
        most_rank, ranges = (0, None) if table is None else (table.most_rank, table.ranges)
        out = torch.empty(rows * (widths + len(layers) * most_rank))
        start = out.data_ptr()
        (self._multiply_bf16 if is_half else self._multiply_fp32)(
            x.data_ptr(),
            start,
            layers.data_ptr(),
            len(layers),
            rows,
            width,
            None if table is None else table.factors.data_ptr(),
            None if ranges is None else ranges.data_ptr(),
            0 if ranges is None else len(ranges),
            most_rank,
            start + rows * widths * out.element_size(),
        )
        return out

    def attend(
        self,
        queries: Tensor,
        key_pool: Tensor,
        value_pool: Tensor,
        tables: Tensor,
        tiles: Tensor,
        longest: int,
        scale: float,
    ) -> Tensor:
        """Attention of queries [tokens, heads, head_dim] over the blocks of their rows; same shape.

        Args:
            key_pool: [blocks, kv_heads, head_dim, BLOCK].
            value_pool: [blocks, kv_heads, BLOCK, head_dim].
            tables: int32 [rows, blocks of the longest row].
            tiles: int32 [4, tiles]: first token, tokens, row, position of the first token.
            longest: most positions that any token attends to.

        Raises:
            MemoryError: there was no room for the scores.
        """
        tokens, heads, head_dim = queries.shape
        out = torch.empty_like(queries)
        starts = tiles.data_ptr()
        step = tiles.shape[1] * tiles.element_size()
        failed = self._attend(
            queries.data_ptr(),
            out.data_ptr(),
            key_pool.data_ptr(),
            value_pool.data_ptr(),
            tables.data_ptr(),
            tables.shape[1],
            *(starts + part * step for part in range(4)),
            tiles.shape[1],
            heads,
            key_pool.shape[1],
            head_dim,
            longest,
            scale,
        )
        if failed:
            raise MemoryError(f"no memory for the attention scores of {tokens} tokens over {longest}")
        return out


def _function(function: Any, *arguments: type, result: type | None = None) -> Callable[..., Any]:
    """The C function with its types declared, so that ctypes converts and checks what it is given."""
    function.argtypes, function.restype = arguments, result
    return cast(Callable[..., Any], function)


@functools.cache
def load_kernels(cache: Path) -> Kernels | None:
    """The kernels, built at most once a process; None where they can't be."""
    library = load_library(cache)
    return Kernels(library) if library is not None else None
