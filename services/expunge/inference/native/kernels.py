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
        self._multiply_fp32 = _function(library.multiply_fp32, *[_POINTER] * 3, *[_SIZE] * 3)
        self._multiply_bf16 = _function(library.multiply_bf16, *[_POINTER] * 3, *[_SIZE] * 3)
        self._add_adapters = _function(library.add_adapters, *[_POINTER] * 5, *[_SIZE] * 4)
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

    def multiply(self, x: Tensor, weight: Tensor, out_width: int) -> Tensor:
        """x [..., in] times a weight of `out_width` outputs, transposed: [..., out_width].

        Args:
            weight: [panels, in, `PANEL`], fp32 or bfloat16, as `PackedWeight` packs it.
        """
        in_width = weight.shape[1]
        out = torch.empty(*x.shape[:-1], out_width)
        product = self._multiply_bf16 if weight.dtype is torch.bfloat16 else self._multiply_fp32
        rows = x.numel() // in_width
        product(x.data_ptr(), weight.data_ptr(), out.data_ptr(), rows, in_width, out_width)
        return out

    def add_adapters(self, x: Tensor, out: Tensor, factors: Tensor, ranges: Tensor, most_rank: int) -> None:
        """out[t] += x[t] Aᵀ B, each token with the factors of its own adapter (arXiv 2106.09685).

        Args:
            x: [tokens, in]; out: [tokens, out]; widths are multiples of `BLOCK`.
            factors: int64 [groups, 3]: addresses of A [rank, in] and B [rank, out], and the rank.
            ranges: int64 [groups, 2]: first and last token (exclusive) of each group, ascending.
            most_rank: the highest of the ranks.
        """
        hidden = torch.empty(len(x), most_rank)
        self._add_adapters(
            x.data_ptr(),
            out.data_ptr(),
            hidden.data_ptr(),
            factors.data_ptr(),
            ranges.data_ptr(),
            len(ranges),
            most_rank,
            x.shape[1],
            out.shape[1],
        )

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
