"""The phases of a request, by a clock that the test turns; and what an engine tells of real ones."""

from __future__ import annotations

from expunge.inference.engine import Engine
from expunge.inference.observer import EngineObserver
from expunge.inference.phases import Phases
from expunge.inference.request import ScoreRequest
from expunge.models.load import LoadedModel
from expunge.registry.records import VersionKind, VersionRecord

from .engine_calls import LIMITS, ask, collect


def test_each_phase_ends_once() -> None:
    now = [10.0]
    phases = Phases(lambda: now[0])
    assert (phases.queue_s, phases.prefill_s, phases.decode_s) == (None, None, None)
    now[0] = 12.0
    phases.begin()
    now[0] = 13.0
    phases.begin()
    phases.answer()
    now[0] = 17.0
    phases.answer()
    assert (phases.queue_s, phases.prefill_s, phases.decode_s) == (2.0, 1.0, 4.0)


class Notes(EngineObserver):
    """What was told."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.ended: list[tuple[str, bool, bool, bool]] = []

    def step_taken(self, seconds: float, rows: int) -> None:
        assert seconds > 0
        self.rows.append(rows)

    def request_ended(
        self, version: str, queue_s: float | None, prefill_s: float | None, decode_s: float | None
    ) -> None:
        self.ended.append((version, queue_s is not None, prefill_s is not None, decode_s is not None))


async def test_an_engine_tells_its_steps_and_the_phases_of_its_requests(loaded: LoadedModel) -> None:
    notes = Notes()
    engine = Engine(loaded, LIMITS, observer=notes)
    engine.start()
    await engine.load_version(VersionRecord(loaded.version, VersionKind.BASE, "base", loaded.digest), None)
    await collect(engine, ask("The", loaded.version, max_tokens=4))
    await engine.score(ScoreRequest("r", loaded.version, "The", " sea"))
    engine.close()
    assert notes.ended == [(loaded.version, True, True, True), (loaded.version, True, True, False)]
    assert max(notes.rows) == 1
