"""Which ends of requests count, and which count against a version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from expunge.errors import (
    DataLoss,
    DeadlineExceeded,
    ExpungeError,
    InvalidRequest,
    ModelError,
    Overloaded,
    Unavailable,
    VersionNotStaged,
)
from expunge.gateway.outcomes import CanaryGauges, Outcomes
from expunge.gateway.routing import Route
from expunge.inference.request import FinishReason, TokenBatch
from expunge.observability.metrics import GatewayMetrics
from expunge.registry.canary import CONDUCTOR
from expunge.registry.records import Outcome, Rollout, Target

ROUTE = Route("default", "new", 7)
CANARY = Rollout("default", 7, (Target("old", 90), Target("new", 10)), canary="new")
TOKEN = TokenBatch("a", (1,), "new")
END = TokenBatch("b", (2,), "new", FinishReason.STOP)


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics()


@pytest.fixture
def outcomes(metrics: GatewayMetrics) -> Outcomes:
    outcomes = Outcomes(metrics)
    outcomes.follow({"default": CANARY})
    return outcomes


async def engine(*items: TokenBatch | BaseException) -> AsyncIterator[TokenBatch]:
    for item in items:
        if isinstance(item, BaseException):
            raise item
        yield item


async def read(outcomes: Outcomes, *items: TokenBatch | BaseException) -> list[TokenBatch]:
    return [batch async for batch in outcomes.watched(engine(*items), ROUTE)]


def counted(outcomes: Outcomes) -> tuple[int, int]:
    report = outcomes.report()
    return (report[0].requests, report[0].failures) if report else (0, 0)


async def test_a_whole_answer_counts_and_comes_through_unchanged(outcomes: Outcomes) -> None:
    assert await read(outcomes, TOKEN, END) == [TOKEN, END]
    assert outcomes.report() == (Outcome("default", 7, "new", 1, 0),)


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (ExpungeError("internal"), 1),
        (ModelError("not finite"), 1),
        (Unavailable("lost"), 1),
        (DataLoss("bytes"), 1),
        (VersionNotStaged("not here"), 1),
        (RuntimeError("a bug"), 1),
        (InvalidRequest.of("max_tokens", "negative"), 0),
        (Overloaded("full"), 0),
        (DeadlineExceeded("late"), 0),
    ],
)
async def test_only_failures_of_the_service_count_against_a_version(
    outcomes: Outcomes, error: Exception, failures: int
) -> None:
    with pytest.raises(type(error)):
        await read(outcomes, TOKEN, error)
    assert counted(outcomes) == (1, failures)

    async def score() -> None:
        raise error

    with pytest.raises(type(error)):
        await outcomes.awaited(score(), ROUTE)
    assert counted(outcomes) == (2, 2 * failures)


async def test_an_answer_that_breaks_off_or_names_another_version_is_a_failure(outcomes: Outcomes) -> None:
    await read(outcomes, TOKEN)
    assert counted(outcomes) == (1, 1)
    await read(outcomes, TokenBatch("", (), "old", FinishReason.STOP))
    assert counted(outcomes) == (2, 2)


async def test_a_request_that_nobody_waits_for_does_not_count(outcomes: Outcomes) -> None:
    watched = outcomes.watched(engine(TOKEN, END), ROUTE)
    assert await anext(watched) == TOKEN
    await watched.aclose()  # type: ignore[attr-defined]
    with pytest.raises(asyncio.CancelledError):
        await read(outcomes, TOKEN, asyncio.CancelledError())
    await read(outcomes, TokenBatch("", (), "new", FinishReason.CANCELLED))
    assert outcomes.report() == ()


async def test_leaving_after_the_end_counts(outcomes: Outcomes) -> None:
    watched = outcomes.watched(engine(END), ROUTE)
    assert await anext(watched) == END
    await watched.aclose()  # type: ignore[attr-defined]
    assert counted(outcomes) == (1, 0)


async def test_an_error_after_the_end_is_no_failure_of_the_answer(outcomes: Outcomes) -> None:
    with pytest.raises(Unavailable):
        await read(outcomes, END, Unavailable("the replica went away"))
    assert counted(outcomes) == (1, 0)


async def test_closing_closes_the_engine(outcomes: Outcomes) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[TokenBatch]:
        try:
            while True:
                yield TOKEN
        finally:
            closed.set()

    watched = outcomes.watched(endless(), ROUTE)
    await anext(watched)
    await watched.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()


async def test_only_aliases_with_a_canary_are_reported_and_forgotten_after_it(outcomes: Outcomes) -> None:
    await outcomes.awaited(asyncio.sleep(0), Route("second", "new", 1))
    await outcomes.awaited(asyncio.sleep(0), ROUTE)
    await outcomes.awaited(asyncio.sleep(0), Route("default", "old", 7))
    assert {one.version: one.requests for one in outcomes.report()} == {"new": 1, "old": 1}
    outcomes.follow({"default": Rollout("default", 8, (Target("new"),))})
    assert outcomes.report() == ()


async def test_metrics_name_alias_version_and_code(outcomes: Outcomes, metrics: GatewayMetrics) -> None:
    await read(outcomes, END)
    with pytest.raises(Unavailable):
        await read(outcomes, Unavailable("lost"))
    with pytest.raises(Overloaded):
        await read(outcomes, Overloaded("full"))
    requests = metrics.version_requests
    for code in ("OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED"):
        assert requests.labels("default", "new", code)._value.get() == 1
    assert metrics.version_failures.labels("default", "new", "UNAVAILABLE")._value.get() == 1
    failed = {sample.labels["code"] for sample in metrics.version_failures.collect()[0].samples}
    assert failed == {"UNAVAILABLE"}


def test_gauges_show_a_canary_and_count_what_it_put_back_by_itself(metrics: GatewayMetrics) -> None:
    def weight() -> float | None:
        labels = {"alias": "default", "version": "new"}
        return metrics.registry.get_sample_value("expunge_canary_weight", labels)

    def put_back() -> float | None:
        labels = {"alias": "default", "version": "new"}
        return metrics.registry.get_sample_value("expunge_automatic_rollbacks_total", labels)

    gauges = CanaryGauges(metrics)
    gauges.show({"default": CANARY})
    assert weight() == 10
    by_hand = Rollout("default", 8, (Target("old"),), principal="operator")
    gauges.show({"default": by_hand})
    assert (weight(), put_back()) == (None, None)
    gauges.show({"default": CANARY})
    gauges.show({"default": Rollout("default", 8, (Target("old"),), principal=CONDUCTOR)})
    assert (weight(), put_back()) == (None, 1)
