"""Audits as jobs: nothing is asked twice, and a live version that fails opens its erasure again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from expunge.auditing.policy import Policy
from expunge.auditing.report import AuditReport
from expunge.registry.records import ErasureRecord, ErasureState, JobKind, JobRecord, Verdict
from expunge.unlearning import audit_stage
from expunge.unlearning.jobs import AuditResult, AuditSpec, TrainedResult

from .conftest import REQUEST, TEACH, Bench

QUICK = replace(  # one kind of probe and no attacks: what is asked does not matter here
    Policy.named("default"),
    gates=tuple(gate for gate in Policy.named("default").gates if gate.figure in ("direct", "es")),
)


@pytest_asyncio.fixture
async def taught(bench: Bench) -> str:
    """The id of a version that knows the facts."""
    bench.workbench.policy = QUICK
    job = await bench.done("teach", JobKind.FINE_TUNE, TEACH)
    return TrainedResult.from_dict(job.result or {}).version


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Request ids of the audits that were really made, in order."""
    made: list[str] = []
    real: Callable[..., AuditReport] = audit_stage.audit_version

    def counted(*arguments: Any, **options: Any) -> AuditReport:
        made.append(arguments[2].request_id)
        return real(*arguments, **options)

    monkeypatch.setattr(audit_stage, "audit_version", counted)
    return made


async def erasures(bench: Bench, count: int) -> list[ErasureRecord]:
    return [
        await bench.registry.create_erasure(
            replace(REQUEST, request_id=f"r{number}"), ("default",), "operator"
        )
        for number in range(1, count + 1)
    ]


def result_of(job: JobRecord) -> AuditResult:
    return AuditResult.from_dict(job.result or {})


async def test_what_was_audited_is_not_asked_again(bench: Bench, taught: str, asked: list[str]) -> None:
    first, second = await erasures(bench, 2)
    one = result_of(await bench.done("a1", JobKind.AUDIT, AuditSpec(taught, [first.id])))
    assert not one.passed
    assert asked == ["r1"]
    both = result_of(await bench.done("a2", JobKind.AUDIT, AuditSpec(taught, [first.id, second.id])))
    assert asked == ["r1", "r2"]
    assert both.reports[first.id] == one.reports[first.id]
    assert both.failed == [first.id, second.id]
    assert [record.id for record in await bench.registry.list_audits(version=taught)] == [
        f"a1-{first.id}",
        f"a2-{second.id}",
    ]


async def test_another_baseline_policy_or_depth_is_another_audit(
    bench: Bench, taught: str, asked: list[str]
) -> None:
    (erasure,) = await erasures(bench, 1)
    base = bench.workbench.loaded.version
    await bench.done("a1", JobKind.AUDIT, AuditSpec(taught, [erasure.id]))
    await bench.done("a2", JobKind.AUDIT, AuditSpec(taught, [erasure.id], base))
    await bench.done("a3", JobKind.AUDIT, AuditSpec(taught, [erasure.id], base, thorough=True))
    assert len(asked) == 3
    await bench.done("a4", JobKind.AUDIT, AuditSpec(taught, [erasure.id], base))
    assert len(asked) == 3, "the thorough one asked all that"
    bench.workbench.policy = replace(QUICK, version=QUICK.version + 1)
    await bench.done("a5", JobKind.AUDIT, AuditSpec(taught, [erasure.id], base))
    assert len(asked) == 4


async def test_a_live_version_that_fails_opens_its_closed_erasure_again(
    bench: Bench, taught: str, asked: list[str]
) -> None:
    closed, other = await erasures(bench, 2)
    served, policy = bench.workbench.loaded.version, await bench.registry.get_policy()
    await bench.registry.put_verdicts([Verdict(served, closed.id, policy, True, "of what is served")])
    states = list(ErasureState)
    for before, after in pairwise(states[: states.index(ErasureState.CLOSED) + 1]):
        await bench.registry.advance_erasure(closed.id, before, after)
    spec = AuditSpec(taught, [closed.id, other.id], reopens=True)
    found = result_of(await bench.done("re", JobKind.AUDIT, spec))
    assert found.failed == [closed.id, other.id]
    again = await bench.registry.get_erasure(closed.id)
    assert again.state is ErasureState.SUPPRESSED
    assert taught in again.detail
    assert f"re-{closed.id}" in again.detail
    (verdict,) = await bench.registry.list_verdicts(taught, closed.id)
    assert not verdict.passed
    assert (await bench.registry.get_erasure(other.id)).state is ErasureState.ACCEPTED, "it was not closed"
    assert asked == ["r1", "r2"]
