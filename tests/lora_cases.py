"""Random adapters in memory for tests of the lora package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from expunge.lora.adapter import Adapter, Pair
from expunge.lora.config import AdapterConfig
from expunge.lora.shape import ModelShape

ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def random_adapter(
    shape: ModelShape,
    *,
    seed: int = 0,
    rank: int = 4,
    alpha: float = 8.0,
    targets: Sequence[str] = ("q_proj", "v_proj", "down_proj"),
    rslora: bool = False,
    rank_pattern: Mapping[str, int] | None = None,
    spread: float = 0.1,
) -> Adapter:
    """An adapter with normal factors of the given spread on every module whose last name is a target."""
    generator = torch.Generator().manual_seed(seed)
    config = AdapterConfig(
        rank=rank,
        alpha=alpha,
        target_modules=tuple(sorted(targets)),
        base_digest=shape.base_digest,
        rslora=rslora,
        rank_pattern=rank_pattern or {},
    )
    pairs = {}
    for path, (in_width, out_width) in shape.modules.items():
        if path.rpartition(".")[2] in targets:
            size = config.rank_of(path)
            pairs[path] = Pair(
                torch.randn(size, in_width, generator=generator) * spread,
                torch.randn(out_width, size, generator=generator) * spread,
            )
    return Adapter(config, pairs)
