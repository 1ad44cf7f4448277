"""Random adapters to measure with: seeded, small, of one rank on every linear layer."""

from __future__ import annotations

from pathlib import Path

import torch

from expunge.lora.adapter import Adapter, Pair
from expunge.lora.config import AdapterConfig
from expunge.lora.peft_format import write_adapter
from expunge.lora.shape import ModelShape

RANK = 16
SPREAD = 0.02  # standard deviation of the factors; small enough that the numbers stay in range


def random_adapter(shape: ModelShape, *, seed: int, rank: int = RANK) -> Adapter:
    """One on every module of `shape`; the same seed gives the same numbers."""
    generator = torch.Generator().manual_seed(seed)

    def factor(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) * SPREAD

    pairs = {
        path: Pair(factor(rank, in_width), factor(out_width, rank))
        for path, (in_width, out_width) in sorted(shape.modules.items())
    }
    targets = tuple(sorted({path.rpartition(".")[2] for path in pairs}))
    return Adapter(AdapterConfig(rank, rank, targets), pairs)


def write_random_adapter(folder: Path, shape: ModelShape, *, seed: int, rank: int = RANK) -> Path:
    """Writes a `random_adapter` in PEFT's format; the same seed gives the same bytes."""
    write_adapter(random_adapter(shape, seed=seed, rank=rank), folder)
    return folder
