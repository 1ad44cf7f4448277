"""What one forward pass takes: by rows, with torch alone and with the kernels, and under adapters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from expunge.benchmarks.serving.adapters import random_adapter
from expunge.config import Settings
from expunge.inference.batch_runner import BatchRunner
from expunge.inference.block_pool import blocks_for
from expunge.inference.flat_batch import FlatBatch, Piece
from expunge.models.load import LoadedModel, load_model

CONTEXT = 64  # positions before the token that each row decodes
ADAPTERS = 32
_TOKEN = 7  # any: what is computed costs the same
_WARM_UP = 2


@dataclass(frozen=True)
class Case:
    """Rows that decode, the versions they run on by turns ("" is the base), and prompt tokens beside them."""

    rows: int
    versions: tuple[str, ...] = ("",)
    prompt_tokens: int = 0


class Steps:
    """One model, with kernels or without, and `ADAPTERS` random adapters."""

    def __init__(self, loaded: LoadedModel, kernels_folder: Path | None) -> None:
        self._runner = BatchRunner(loaded, ADAPTERS, 64, 256 * 2**20, kernels_folder=kernels_folder)
        table = self._runner.table
        self._slots = {"": table.load_base(loaded.version)}
        for index in range(ADAPTERS):
            name = f"v{index}"
            self._slots[name] = table.load(name, random_adapter(table.shape, seed=index))

    @classmethod
    def load(cls, settings: Settings, *, with_kernels: bool) -> Steps:
        """A model of its own."""
        loaded = load_model(settings.model, cache=settings.cache, dtype=settings.dtype)
        return cls(loaded, settings.cache / "kernels" if with_kernels else None)

    def run(self, case: Case) -> None:
        """One pass."""
        share = case.rows / len(case.versions)
        needed = blocks_for(CONTEXT + 1)
        pieces = [
            Piece(
                [_TOKEN],
                CONTEXT,
                range(row * needed, (row + 1) * needed),
                self._slots[case.versions[int(row / share)]],
                range(1),
            )
            for row in range(case.rows)
        ]
        if case.prompt_tokens:
            first = case.rows * needed
            blocks = range(first, first + blocks_for(case.prompt_tokens))
            pieces.append(Piece([_TOKEN] * case.prompt_tokens, 0, blocks, self._slots[""], range(0)))
        self._runner.run(FlatBatch.of(pieces))


def measure(
    contenders: Mapping[str, Callable[[], None]], repeats: int, timer: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median milliseconds of each; they take turns, so that a drifting machine is the same to all."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(_WARM_UP + repeats):
        for name, work in contenders.items():
            started = timer()
            work()
            if repeat >= _WARM_UP:
                taken[name].append((timer() - started) * 1000)
    return {name: median(values) for name, values in taken.items()}
