"""A LoRA adapter in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from expunge.lora.config import AdapterConfig


@dataclass(frozen=True)
class Pair:
    """The two factors of one module: its output gains scale · B(Ax)."""

    a: torch.Tensor  # [rank, in]
    b: torch.Tensor  # [out, rank]

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True)
class Adapter:
    """Factors by module path ("model.layers.0.self_attn.q_proj"), and how to apply them."""

    config: AdapterConfig
    pairs: Mapping[str, Pair]

    @property
    def rank(self) -> int:
        """The highest rank of any module."""
        return max(pair.rank for pair in self.pairs.values())

    @property
    def size_bytes(self) -> int:
        return sum(
            factor.numel() * factor.element_size()
            for pair in self.pairs.values()
            for factor in (pair.a, pair.b)
        )

    def delta(self, path: str) -> torch.Tensor:
        """The dense change of one module's weight, scale · BA  # [out, in], float32."""
        pair = self.pairs[path]
        return self.config.scale_of(path) * (pair.b.float() @ pair.a.float())
