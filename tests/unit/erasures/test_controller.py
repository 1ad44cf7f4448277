import json
from itertools import cycle

import pytest

from expunge.erasures.history import History
from expunge.erasures.report import build_report, read_report
from expunge.errors import BelowFloor, FailedPrecondition
from expunge.registry.canary import CanarySpec
from expunge.registry.records import ErasureState as S
from expunge.registry.records import JobKind, JobRecord, JobState, Target

from .conftest import Run
from .served_registry import TAUGHT, forget, point

WHOLE_LIFE = [
    "accepted",
    "suppressed",
    "inverting",
    "measuring",
    "training",
    "auditing",
    "staging",
    "live",
    "verified",
    "closed",
]
BEFORE_LIVE = [S.ACCEPTED, S.SUPPRESSED, S.INVERTING, S.MEASURING, S.TRAINING, S.AUDITING, S.STAGING]
KINDS = {
    S.INVERTING: JobKind.INVERT,
    S.MEASURING: JobKind.MEASURE,
    S.TRAINING: JobKind.UNLEARN,
    S.AUDITING: JobKind.AUDIT,
}


async def test_an_erasure_runs_from_accepted_to_closed(run: Run) -> None:
    erasure = await run.accept()
    closed = await run.reached(erasure.id, S.CLOSED)
    assert await run.states(erasure.id) == WHOLE_LIFE
    assert await run.served() == closed.version
    assert run.service.gateway.served.count(closed.version) > 10
    assert (await run.service.registry.list_rollouts())[0].generation == 3
    with pytest.raises(BelowFloor):
        await point(run.service.registry, "default", TAUGHT.id)


async def test_the_guard_holds_until_the_erasure_is_closed(run: Run) -> None:
    run.work.held = {JobKind.AUDIT}
    erasure = await run.accept()
    await run.reached(erasure.id, S.AUDITING)
    assert await run.guarded() == {erasure.id}
    run.work.hold.set()
    await run.reached(erasure.id, S.CLOSED)
    assert run.service.registry.hub.snapshot.guards == ()


async def test_events_tell_what_people_want_to_watch_and_hold_no_fact_text(run: Run) -> None:
    erasure = await run.accept()
    await run.reached(erasure.id, S.CLOSED)
    history = await History.read(run.service.registry, erasure.id)
    assert history.latest("seconds_suppressed") < 5
    assert history.latest("memo_before") == 0.8
    assert history.latest("selected")["home"][0] == {"candidate": 3, "memo": pytest.approx(0.3)}
    assert history.latest("losses") == {"loss": 0.1}
    assert history.latest("figures")[0]["control"]["n"] == 1
    assert history.latest("flip_ms") >= 0
    assert history.latest("verification")["probes_answered"] == history.latest("verification")["probes_asked"]
    text = json.dumps([event.data for event in await run.service.registry.events("", 0, 0)])
    for fact in forget().facts:
        assert fact.answer not in text
        assert fact.question not in text
    assert "lie" not in text
    assert "Ellstrom" not in text


@pytest.mark.parametrize("state", [state for state in S if not state.is_final])
async def test_killed_in_any_state_it_goes_on_to_closed(run: Run, state: S) -> None:
    run.work.held = {KINDS[state]} if state in KINDS else set()
    erasure = await run.accept()
    order = list(S)
    await run.until(erasure.id, lambda record: order.index(record.state) >= order.index(state))
    run.work.held = set()
    await run.kill_everything_and_restart()
    await run.reached(erasure.id, S.CLOSED)
    assert await run.states(erasure.id) == WHOLE_LIFE
    assert len(run.work.jobs) == 4


async def test_a_failed_gate_leads_to_a_round_with_more_candidates_for_what_leaks(run: Run) -> None:
    run.work.leaks = lambda version, erasure_id: {"home"} if "-r1-" in version else set()
    erasure = await run.accept()
    closed = await run.reached(erasure.id, S.CLOSED)
    assert closed.round == 2
    jobs = run.work.jobs
    assert jobs[f"{erasure.id}-r1-invert"]["count"] == 4
    assert jobs[f"{erasure.id}-r2-invert"]["count"] == 8
    assert jobs[f"{erasure.id}-r2-invert"]["fact_ids"] == ["home"]
    assert set(jobs[f"{erasure.id}-r2-measure"]["candidates"]) == {"home"}
    second = jobs[f"{erasure.id}-r2-unlearn"]
    assert set(second["selected"]) == {"home", "work"}
    assert second["selected"]["home"][0] == "home lie 7"
    assert second["steps"] > 0


async def test_rounds_run_out_and_suppression_stays(run: Run) -> None:
    run.work.leaks = lambda version, erasure_id: {"home"}
    erasure = await run.accept()
    failed = await run.reached(erasure.id, S.FAILED)
    assert failed.round == 2
    assert "gates not met in round 2: direct" in failed.detail
    assert await run.guarded() == {erasure.id}
    assert await run.served() == TAUGHT.id


async def test_a_failed_erasure_leaves_a_report_with_the_evidence(run: Run) -> None:
    run.work.leaks = lambda version, erasure_id: {"home"}
    erasure = await run.accept()
    await run.reached(erasure.id, S.FAILED)
    report = await build_report(run.service.registry, erasure.id)
    assert [audit["passed"] for audit in report["audits"]] == [False, False]
    assert report["claimed"] == []


@pytest.mark.parametrize("state", BEFORE_LIVE)
async def test_it_can_be_cancelled_in_every_state_before_live(idle: Run, state: S) -> None:
    registry = idle.service.registry
    idle.work.held = {KINDS[state]} if state in KINDS else set()
    erasure = await idle.accept()
    if state in KINDS:
        idle.start()
        await idle.reached(erasure.id, state)
    elif state is not S.ACCEPTED:  # too short to be met by chance: put there before the controller starts
        await registry.advance_erasure(erasure.id, S.ACCEPTED, state)
    await registry.advance_erasure(erasure.id, state, S.CANCELLED, detail="mistake", principal="operator")
    if state not in KINDS:
        idle.start()
    await idle.reached(erasure.id, S.CANCELLED)
    idle.work.hold.set()
    second = await idle.accept(2, "Tobias Quentin")
    await idle.reached(second.id, S.CLOSED)
    assert all(job.state.is_final for job in await registry.list_jobs())
    assert await idle.guarded() == set()


async def test_cancelling_ends_its_running_job(run: Run) -> None:
    run.work.held = {JobKind.UNLEARN}
    erasure = await run.accept()
    job_id = f"{erasure.id}-r1-unlearn"
    await run.reached(erasure.id, S.TRAINING)
    await _job_in(run, job_id, JobState.RUNNING)
    await run.service.registry.advance_erasure(erasure.id, S.TRAINING, S.CANCELLED)
    await _job_in(run, job_id, JobState.CANCELLED)


async def test_a_rollout_that_moved_on_is_rebased_upon(run: Run) -> None:
    run.work.held = {JobKind.AUDIT}
    erasure = await run.accept()
    await run.reached(erasure.id, S.AUDITING)
    await point(run.service.registry, "default", "base:0")
    run.work.hold.set()
    closed = await run.reached(erasure.id, S.CLOSED)
    assert run.work.jobs[f"{erasure.id}-r1b1-unlearn"]["live_version"] == "base:0"
    assert run.work.jobs[f"{erasure.id}-r1b1-unlearn"]["round"] == 2
    assert closed.round == 1
    assert await run.served() == closed.version
    assert (await build_report(run.service.registry, erasure.id))["rebases"] == 1


async def test_after_three_rebases_it_fails(run: Run) -> None:
    registry = run.service.registry
    elsewhere = cycle(("base:0", TAUGHT.id))
    real = run.work.run

    async def move_first(job_id: str) -> JobRecord:
        if job_id.endswith("audit"):
            await point(registry, "default", next(elsewhere))
        return await real(job_id)

    run.work.run = move_first  # type: ignore[method-assign]
    erasure = await run.accept()
    failed = await run.reached(erasure.id, S.FAILED)
    assert "rebased 3 times" in failed.detail
    assert await run.guarded() == {erasure.id}


async def test_a_second_erasure_waits_and_builds_on_the_first(run: Run) -> None:
    run.work.held = {JobKind.MEASURE}
    first = await run.accept()
    await run.reached(first.id, S.MEASURING)
    second = await run.accept(2, "Tobias Quentin")
    waiting = await run.until(second.id, lambda record: record.detail != "")
    assert waiting.detail == f"waits for erasure {first.id} to be live"
    run.work.hold.set()
    await run.reached(first.id, S.CLOSED)
    await run.reached(second.id, S.CLOSED)
    spec = run.work.jobs[f"{second.id}-r1-unlearn"]
    assert spec["live_version"] == (await run.service.registry.get_erasure(first.id)).version
    assert spec["floor_erasures"] == [first.id]
    assert run.work.jobs[f"{second.id}-r1-audit"]["erasure_ids"] == [second.id, first.id]


async def test_each_distinct_live_version_gets_its_own_successor(run: Run) -> None:
    await point(run.service.registry, "other", "base:0")
    erasure = await run.accept()
    await run.reached(erasure.id, S.CLOSED)
    assert await run.served("default") != await run.served("other")
    for alias, live in (("default", TAUGHT.id), ("other", "base:0")):
        assert (await run.service.registry.get_version(await run.served(alias))).parent == live


async def test_an_erasure_waits_while_a_canary_runs(run: Run) -> None:
    registry = run.service.registry
    targets = [Target(TAUGHT.id, 90), Target("base:0", 10)]
    await registry.set_rollout("default", targets, 2, "canary", "operator", 5.0)
    erasure = await run.accept()
    await run.until(erasure.id, lambda record: "canary of alias default" in record.detail)
    await point(registry, "default", TAUGHT.id)
    await run.reached(erasure.id, S.CLOSED)


async def test_an_erasure_waits_for_a_canary_that_goes_step_by_step(run: Run) -> None:
    """At 100 %, too: until the canary has finished, the version may be put back."""
    registry = run.service.registry
    spec = CanarySpec(steps=(100,), step_s=3600.0)
    await registry.set_rollout("default", [Target("base:0")], 2, "canary", "operator", 5.0, canary=spec)
    erasure = await run.accept()
    await run.until(erasure.id, lambda record: "canary of alias default" in record.detail)
    await registry.raise_alarm("base:0", "a gate was not met", "auditor")
    await run.reached(erasure.id, S.CLOSED)
    assert (await registry.get_version(await run.served())).parent == TAUGHT.id


async def test_a_canary_that_begins_during_training_only_delays_an_erasure(run: Run) -> None:
    registry = run.service.registry
    run.work.held = {JobKind.AUDIT}
    erasure = await run.accept()
    await run.reached(erasure.id, S.AUDITING)
    spec = CanarySpec(steps=(50, 100), step_s=3600.0)
    await registry.set_rollout("default", [Target("base:0")], 2, "canary", "operator", 5.0, canary=spec)
    run.work.hold.set()
    waiting = await run.until(erasure.id, lambda record: "canary of alias default" in record.detail)
    assert waiting.state is S.STAGING
    await registry.raise_alarm("base:0", "a gate was not met", "auditor")
    await run.reached(erasure.id, S.CLOSED)
    assert await run.states(erasure.id) == WHOLE_LIFE, "nothing was trained again"


async def test_a_failed_job_fails_the_erasure_and_says_which(run: Run) -> None:
    run.work.fails = {JobKind.UNLEARN}
    erasure = await run.accept()
    failed = await run.reached(erasure.id, S.FAILED)
    assert f"job {erasure.id}-r1-unlearn is failed" in failed.detail
    assert "out of memory" not in failed.detail


async def test_jobs_of_operators_are_handed_out(run: Run) -> None:
    job = JobRecord("tune-1", JobKind.FINE_TUNE, JobState.QUEUED, spec={"examples": []})
    await run.service.registry.create_job(job)
    await _job_in(run, "tune-1", JobState.SUCCEEDED)


async def test_jobs_that_were_waiting_when_it_died_are_handed_out(idle: Run) -> None:
    job = JobRecord("tune-1", JobKind.FINE_TUNE, JobState.QUEUED, spec={"examples": []})
    await idle.service.registry.create_job(job)
    idle.start()
    await _job_in(idle, "tune-1", JobState.SUCCEEDED)


async def test_the_report_is_stored_without_any_text_of_the_facts(run: Run) -> None:
    erasure = await run.accept()
    with pytest.raises(FailedPrecondition):
        await read_report(run.service.registry, erasure.id)
    closed = await run.reached(erasure.id, S.CLOSED)
    stored = await read_report(run.service.registry, erasure.id)
    assert stored.report["versions"]["after"] == closed.version
    assert stored.report["versions"]["aliases_before"] == {"default": TAUGHT.id}
    assert stored.report["memo"]["before"] == 0.8
    assert stored.report["verification"]["leaks"] == 0
    assert stored.report["signed"] is False
    assert f"`{closed.version}`" in stored.markdown
    text = json.dumps(stored.report) + stored.markdown
    for fact in forget().facts:
        assert fact.answer not in text
        assert fact.question not in text


async def _job_in(run: Run, job_id: str, state: JobState) -> None:
    seen, topic = 0, f"job:{job_id}"
    while True:
        for event in await run.service.registry.events(topic, seen, 5.0):
            seen = event.seq
            if event.topic == topic and event.data["state"] == state.value:
                return
