"""Drives the cells of a matrix against every contender, in turns, so that all see the same machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace

from expunge.benchmarks.serving.driver import Driver
from expunge.benchmarks.serving.flood import Flood, Flooded
from expunge.benchmarks.serving.footprint import Footprint, FootprintMeter, Processes
from expunge.benchmarks.serving.matrix import Cell, Matrix, plan_of
from expunge.benchmarks.serving.operator import Flipper
from expunge.benchmarks.serving.plan import Ask, Plan
from expunge.benchmarks.serving.prompts import PromptWriter
from expunge.benchmarks.serving.statistics import Figures, figures
from expunge.errors import Unavailable

EXPUNGE, ENGINE = "expunge", "engine in process"
ROLLOUTS, FLOOD = "expunge, during rollouts", "expunge, during a flood"
WARM_TOKENS, WARM_PROMPT = 8, 32

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Contender:
    """Somebody who answers the load.

    Attributes:
        driver: the load process that asks it.
        models: the matrix's model names → its own.
        processes: those whose processor time and memory count; None where they can't be seen.
    """

    name: str
    driver: Driver
    models: Mapping[str, str]
    processes: Processes | None = None

    def renamed(self, plan: Plan) -> Plan:
        """The plan with this contender's model names."""
        asks = tuple(replace(ask, model=self.models[ask.model]) for ask in plan.asks)
        return replace(plan, asks=asks)


@dataclass(frozen=True)
class Measured:
    """What one contender did in one cell.

    Attributes:
        rollouts: how many took effect meanwhile.
        flood: what came of another client's requests meanwhile; None where there was none.
    """

    figures: Figures
    footprint: Footprint | None
    rollouts: int = 0
    flood: Flooded | None = None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class CellResult:
    """All that was measured in one cell, by contender.

    Attributes:
        rate: requests a second that were sent, in an open loop.
    """

    cell: Cell
    rate: float
    measured: Mapping[str, Measured]


class ServingBenchmark:
    """One run of the matrix.

    Args:
        contenders: the service itself first.
        flipper: where cells are repeated during rollouts.
        flood: where cells are repeated while another client floods.
        seed: of the arrival times.
        timeout_s: of one request.
    """

    def __init__(
        self,
        matrix: Matrix,
        contenders: tuple[Contender, ...],
        writer: PromptWriter,
        *,
        flipper: Flipper | None = None,
        flood: Flood | None = None,
        seed: int = 0,
        timeout_s: float = 300.0,
    ) -> None:
        self._matrix = matrix
        self._contenders = contenders
        self._writer = writer
        self._flipper = flipper
        self._flood = flood
        self._seed = seed
        self._timeout_s = timeout_s

    def warm_up(self) -> None:
        """Has everybody answer a little under every name, and as many requests at once as there will be.

        Raises:
            Unavailable: somebody does not answer at all; the text says who and how.
        """
        names = sorted({name for cell in self._matrix.cells() for name in cell.models})
        most = max(*self._matrix.streams, len(names))
        for contender in self._contenders:
            asks = tuple(
                Ask(names[number % len(names)], self._writer.write(WARM_PROMPT), WARM_TOKENS)
                for number in range(most)
            )
            plan = contender.renamed(Plan(asks, streams=most, timeout_s=self._timeout_s))
            failed = figures(plan, contender.driver.run(plan))
            if failed.errors:
                raise Unavailable(f"{contender.name} fails at the warm-up: {failed.first_error}")

    def run(self, progress: Progress) -> Iterator[CellResult]:
        """Measures one cell after the other."""
        results: list[CellResult] = []
        cells = self._matrix.cells()
        for number, cell in enumerate(cells, 1):
            progress(f"{number}/{len(cells)} {cell.label()}")
            rate = (cell.rate or self._half_of_capacity(cell, results)) if cell.is_open else 0.0
            results.append(self._measure(cell, rate))
            yield results[-1]

    def _measure(self, cell: Cell, rate: float) -> CellResult:
        plan = self._plan(cell, rate)
        measured = {contender.name: self._drive(contender, plan) for contender in self._contenders}
        if self._flipper is not None:
            again = self._plan(cell, rate)  # new prompts: those of before are in the prefix cache
            with self._flipper as flipper:
                result = self._drive(self._contenders[0], again)
            measured[ROLLOUTS] = replace(result, rollouts=flipper.flips)
        if self._flood is not None:
            again = self._plan(cell, rate)
            with self._flood as flood:
                result = self._drive(self._contenders[0], again)
            measured[FLOOD] = replace(result, flood=flood.outcome)
        return CellResult(cell, rate, measured)

    def _plan(self, cell: Cell, rate: float) -> Plan:
        prompts = [self._writer.write(cell.prompt_tokens) for _ in range(self._matrix.requests(cell))]
        tokens = self._matrix.output_tokens
        return plan_of(cell, prompts, tokens, rate=rate, seed=self._seed, timeout_s=self._timeout_s)

    def _drive(self, contender: Contender, plan: Plan) -> Measured:
        own = contender.renamed(plan)
        meter = FootprintMeter(contender.processes) if contender.processes else None
        with meter or nullcontext():
            responses = contender.driver.run(own)
        return Measured(figures(own, responses), meter.footprint if meter else None)

    def _half_of_capacity(self, cell: Cell, results: list[CellResult]) -> float:
        """Half the requests a second that the closed loop of most streams reached."""
        alike = (cell.prompt_tokens, cell.adapters)
        closed = [one for one in results if (one.cell.prompt_tokens, one.cell.adapters) == alike]
        reached = closed[-1].measured[self._contenders[0].name].figures
        return 0.5 * reached.requests / reached.seconds
