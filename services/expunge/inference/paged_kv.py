"""Keys and values of every layer, in one pool of blocks that is allocated once; and attention over them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import psutil
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PretrainedConfig

from expunge.errors import ConfigError
from expunge.inference.block_pool import BLOCK, blocks_for
from expunge.inference.flat_batch import FlatBatch
from expunge.inference.native.kernels import MAX_QUERIES, Kernels


@dataclass(frozen=True)
class KvShape:
    """What one token needs."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype

    @classmethod
    def of(cls, config: PretrainedConfig, dtype: torch.dtype) -> KvShape:
        """The shape for a model, by its configuration."""
        text = config.get_text_config()
        heads = int(text.num_attention_heads)
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
        kv_heads = getattr(text, "num_key_value_heads", None) or heads
        return cls(int(text.num_hidden_layers), int(kv_heads), int(head_dim), dtype)

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize

    def blocks_in(self, budget: int) -> int:
        """Blocks that fit `budget` bytes."""
        return budget // (BLOCK * self.bytes_per_token)


class PagedKv:
    """The pool's tensors. Per layer keys [blocks, kv_heads, head_dim, BLOCK], so that the scores of one block
    are sums of whole vectors, and values [blocks, kv_heads, BLOCK, head_dim].

    Args:
        shape: of one token.
        blocks: how many are allocated, at once.
        device: where.
        kernels: compute with these; None: with torch.

    Raises:
        ConfigError: the machine has not that much memory.
    """

    def __init__(self, shape: KvShape, blocks: int, device: torch.device, kernels: Kernels | None) -> None:
        self.shape = shape
        self.blocks = blocks
        needed = blocks * BLOCK * shape.bytes_per_token
        _check_memory(needed, device)
        keys = (blocks, shape.kv_heads, shape.head_dim, BLOCK)
        values = (blocks, shape.kv_heads, BLOCK, shape.head_dim)
        layers = range(shape.layers)
        self._keys = [torch.zeros(keys, dtype=shape.dtype, device=device) for _ in layers]
        self._values = [torch.zeros(values, dtype=shape.dtype, device=device) for _ in layers]
        self._kernels = kernels

    def attend(
        self, layer: int, step: AttentionStep, queries: Tensor, keys: Tensor, values: Tensor, scale: float
    ) -> Tensor:
        """Write the step's keys and values, then attend.

        Args:
            queries: [tokens, heads, head_dim]; keys, values: [tokens, kv_heads, head_dim].

        Returns:
            [tokens, heads, head_dim].
        """
        key_pool, value_pool = self._keys[layer], self._values[layer]
        batch = step.batch
        if self._kernels is not None:
            keys, values = keys.contiguous(), values.contiguous()
            self._kernels.write_kv(keys, values, key_pool, value_pool, batch.places)
            return self._kernels.attend(
                queries.contiguous(), key_pool, value_pool, batch.tables, step.tiles, batch.longest, scale
            )
        blocks, offsets = step.places // BLOCK, step.places % BLOCK
        key_pool[blocks, :, :, offsets] = keys
        value_pool[blocks, :, offsets] = values
        pieces = [self._attend_piece(layer, step, row, queries, scale) for row in range(len(batch.tables))]
        return torch.cat(pieces)

    def _attend_piece(
        self, layer: int, step: AttentionStep, row: int, queries: Tensor, scale: float
    ) -> Tensor:
        start, count, first = step.batch.pieces[:, row].tolist()
        length = first + count
        table = step.tables[row, : blocks_for(length)]
        # [kv_heads, blocks, head_dim, BLOCK] → [kv_heads, positions, head_dim]
        keys = self._keys[layer][table].permute(1, 0, 3, 2).flatten(1, 2)[:, :length]
        values = self._values[layer][table].transpose(0, 1).flatten(1, 2)[:, :length]
        visible = torch.ones(count, length, dtype=torch.bool, device=queries.device).tril(first)
        return functional.scaled_dot_product_attention(
            queries[start : start + count].transpose(0, 1)[None],
            keys[None],
            values[None],
            attn_mask=visible,
            scale=scale,
            enable_gqa=True,
        )[0].transpose(0, 1)


class AttentionStep:
    """What all layers of one forward pass have in common."""

    def __init__(self, batch: FlatBatch, group: int, device: torch.device) -> None:
        self.batch = batch
        self._group = group
        self._device = device

    @cached_property
    def tiles(self) -> Tensor:
        return self.batch.tiles(max(1, MAX_QUERIES // self._group))

    @cached_property
    def places(self) -> Tensor:
        return self.batch.places.to(self._device)

    @cached_property
    def tables(self) -> Tensor:
        return self.batch.tables.long().to(self._device)


def _check_memory(needed: int, device: torch.device) -> None:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"kv_cache_mib asks for {needed / 2**20:,.0f} MiB of keys and values, and "
            f"{free / 2**20:,.0f} MiB are free; lower EXPUNGE_KV_CACHE_MIB"
        )
