"""Another client that asks for more than it may have, while a cell is measured."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from expunge.benchmarks.serving.driver import Driver
from expunge.benchmarks.serving.plan import Ask, Plan


@dataclass(frozen=True)
class Flooded:
    """What came of a flood: answers that ended, and requests that were refused or failed."""

    answered: int
    refused: int


class Flood:
    """Keeps `streams` requests of another client under way while its block runs.

    Args:
        driver: the load process that asks as that client.
        asks: sent in turns, again and again.
    """

    def __init__(self, driver: Driver, asks: tuple[Ask, ...], streams: int, timeout_s: float = 300.0) -> None:
        self._driver = driver
        self._plan = Plan(asks, streams=streams, timeout_s=timeout_s, is_endless=True)
        self.outcome = Flooded(0, 0)

    def __enter__(self) -> Self:
        self._driver.begin(self._plan)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        responses = self._driver.end()
        refused = sum(bool(response.error) for response in responses)
        self.outcome = Flooded(len(responses) - refused, refused)
