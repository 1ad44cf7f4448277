"""The cells of the benchmark: streams × prompt lengths × adapters, closed loop, and some open ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.benchmarks.serving.plan import Ask, Plan

BASE = "bench-base"
ADAPTERS = ("bench-a", "bench-b", "bench-c", "bench-d")
LEAST_REQUESTS = 4  # of a cell, so that one stream has percentiles at all


@dataclass(frozen=True)
class Cell:
    """One load of the matrix.

    Attributes:
        streams: requests that are always under way; 0: open loop.
        prompt_tokens: of every prompt.
        adapters: 0: the base version; otherwise so many, in turns.
        rate: open loop: requests a second; 0: half of what the closed loop of most streams reached.
    """

    streams: int
    prompt_tokens: int
    adapters: int
    rate: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.streams == 0

    @property
    def models(self) -> tuple[str, ...]:
        """The model names asked for, in turns."""
        return ADAPTERS[: self.adapters] if self.adapters else (BASE,)

    def label(self) -> str:
        load = "open loop" if self.is_open else f"{self.streams} stream{'s' * (self.streams > 1)}"
        who = "base" if not self.adapters else f"{self.adapters} adapter{'s' * (self.adapters > 1)}"
        return f"{load}, {self.prompt_tokens}-token prompts, {who}"


@dataclass(frozen=True)
class Matrix:
    """Which cells are measured, and how much in each.

    Attributes:
        rounds: requests of each stream; in the open loop of as many streams as the most here.
        open_loop: one open cell after the closed ones of each prompt length and number of adapters.
    """

    streams: Sequence[int]
    prompts: Sequence[int]
    adapters: Sequence[int]
    output_tokens: int = 64
    rounds: int = 1
    open_loop: bool = True
    rate: float = 0.0

    def cells(self) -> list[Cell]:
        """In the order in which they are measured."""
        found = []
        for prompt in self.prompts:
            for adapters in self.adapters:
                found += [Cell(streams, prompt, adapters) for streams in self.streams]
                if self.open_loop:
                    found.append(Cell(0, prompt, adapters, self.rate))
        return found

    @property
    def adapter_names(self) -> tuple[str, ...]:
        """The adapters that some cell asks for."""
        return ADAPTERS[: max(self.adapters)]

    def requests(self, cell: Cell) -> int:
        """How many requests a cell sends."""
        return max(LEAST_REQUESTS, self.rounds * (cell.streams or max(self.streams)))


QUICK = Matrix(streams=(1, 8, 32), prompts=(128,), adapters=(0, 1, 4), open_loop=False)
FULL = Matrix(streams=(1, 8, 32), prompts=(32, 128, 512), adapters=(0, 1, 4), rounds=2)


def plan_of(
    cell: Cell, prompts: Sequence[str], output_tokens: int, *, rate: float, seed: int, timeout_s: float
) -> Plan:
    """The load of one cell.

    Args:
        rate: requests a second in the open loop, where the gaps are exponential (Poisson arrivals).
    """
    asks = tuple(
        Ask(cell.models[number % len(cell.models)], prompt, output_tokens)
        for number, prompt in enumerate(prompts)
    )
    if not cell.is_open:
        return Plan(asks, streams=cell.streams, timeout_s=timeout_s)
    draws = random.Random(seed)
    return Plan(asks, gaps_s=tuple(draws.expovariate(rate) for _ in asks), timeout_s=timeout_s)
