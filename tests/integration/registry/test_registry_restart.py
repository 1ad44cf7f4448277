"""The registry as a real Ray actor, killed without warning in the middle of writes."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from expunge.config import Settings
from expunge.errors import NotFound, StaleGeneration
from expunge.facts import ErasureKind, Fact, ForgetRequest, Subject
from expunge.registry.actor import connect_or_start
from expunge.registry.canary import CanaryPlan, CanarySpec
from expunge.registry.client import NAMESPACE, RegistryClient
from expunge.registry.records import (
    EventRecord,
    JobKind,
    JobRecord,
    JobState,
    MemberKind,
    MemberReport,
    Outcome,
    Snapshot,
    Target,
    VersionKind,
    VersionRecord,
)

LEASE_S = 15.0


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryClient]:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        namespace=NAMESPACE,
        address="local",
        log_to_driver=False,
        _temp_dir="/tmp/ray-registry",  # short: sockets lie in it
    )
    try:
        yield connect_or_start(Settings(state_dir=tmp_path / "state", lease_s=LEASE_S))
    finally:
        ray.shutdown()


class Member:
    """A gateway or engine that follows through the client and notes when it last heard from the registry."""

    def __init__(self, registry: RegistryClient, name: str, kind: MemberKind) -> None:
        self._registry = registry
        self._name = name
        self._kind = kind
        self.snapshot: Snapshot | None = None
        self.longest_silence_s = 0.0
        self.outcomes: tuple[Outcome, ...] = ()

    async def follow(self) -> None:
        heard_at = time.monotonic()
        while True:
            revision = self.snapshot.revision if self.snapshot else 0
            staged = tuple(version.id for version in self.snapshot.wanted) if self.snapshot else ()
            report = MemberReport(self._name, self._kind, revision, staged, outcomes=self.outcomes)
            self.snapshot = await self._registry.watch(report, revision, 1.0) or self.snapshot
            self.longest_silence_s = max(self.longest_silence_s, time.monotonic() - heard_at)
            heard_at = time.monotonic()


def forget(number: int) -> ForgetRequest:
    fact = Fact("f1", f"Who keeps lighthouse {number}?", "Orsolya Pennington")
    return ForgetRequest(f"request-{number}", ErasureKind.PERSONAL_DATA, (Subject("Orsolya"),), (fact,))


async def kill_registry(registry: RegistryClient) -> None:
    """SIGKILL the actor's process, and return once a new one answers."""
    pid = await registry.process_id()
    os.kill(pid, signal.SIGKILL)
    assert await registry.process_id() != pid


class Writers:
    """Three clients that write without pause, and what they were told was done."""

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._is_writing = True
        self.jobs: list[str] = []
        self.erasures: dict[str, str] = {}
        self.generations: list[int] = []
        self.tasks = [
            asyncio.create_task(write())
            for write in (self._write_jobs, self._write_erasures, self._move_the_alias)
        ]

    async def stop(self) -> None:
        """Let each finish what it is at."""
        self._is_writing = False
        await asyncio.gather(*self.tasks)

    async def _write_jobs(self) -> None:
        while self._is_writing:
            job_id = f"job-{len(self.jobs)}"
            job = JobRecord(job_id, JobKind.AUDIT, JobState.QUEUED, spec={"id": job_id})
            await self._registry.create_job(job)
            await self._registry.update_job(job_id, state=JobState.RUNNING, expected_state=JobState.QUEUED)
            self.jobs.append(job_id)

    async def _write_erasures(self) -> None:
        while self._is_writing:
            number = len(self.erasures)
            erasure = await self._registry.create_erasure(forget(number), ["default"], "operator")
            self.erasures[f"request-{number}"] = erasure.id

    async def _move_the_alias(self) -> None:
        while self._is_writing:
            generation = self.generations[-1] if self.generations else 1
            target = Target(f"sha-{'ab'[generation % 2]}")
            change = await self._registry.set_rollout("default", [target], generation, "swap", "tester", 30.0)
            self.generations.append(change.rollout.generation)


async def assert_stored(registry: RegistryClient, writers: Writers) -> None:
    """Everything that was acknowledged is there, and nothing else is."""
    jobs = {job.id: job.state for job in await registry.list_jobs()}
    assert [jobs[job_id] for job_id in writers.jobs] == [JobState.RUNNING] * len(writers.jobs)
    erasures = {erasure.request_id: erasure.id for erasure in await registry.list_erasures()}
    assert erasures == writers.erasures
    last = len(writers.generations) + 1
    assert writers.generations == list(range(2, last + 1))
    history = await registry.rollout_history("default")
    assert [rollout.generation for rollout in history] == list(range(last, 0, -1))


async def test_everything_acknowledged_survives_kill_9_and_members_follow_on(
    registry: RegistryClient, record_property: Callable[[str, object], None]
) -> None:
    base = VersionRecord("base:0", VersionKind.BASE, "base", "0")
    await registry.ensure_base(base)
    for name in ("a", "b"):
        await registry.put_version(VersionRecord(f"sha-{name}", VersionKind.ADAPTER, name, "0"))
    members = [
        Member(registry, "gateway-0", MemberKind.GATEWAY),
        Member(registry, "engine-0", MemberKind.ENGINE),
    ]
    following = [asyncio.create_task(member.follow()) for member in members]
    writers = Writers(registry)
    restarts = []
    for _ in range(2):
        target = len(writers.generations) + 5
        while len(writers.generations) < target:
            await asyncio.wait([*writers.tasks, *following], timeout=0.05)
            assert not any(task.done() for task in (*writers.tasks, *following))
        began = time.monotonic()
        await kill_registry(registry)
        restarts.append(time.monotonic() - began)
    await writers.stop()
    await assert_stored(registry, writers)

    last = next(iter(reversed(writers.erasures.values())))
    assert await registry.await_guard(last, 10.0) >= 0
    snapshots = [member.snapshot for member in members]
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    for snapshot in snapshots:
        assert snapshot is not None
        assert snapshot.rollouts[0].generation == writers.generations[-1]
    silence_s = max(member.longest_silence_s for member in members)
    record_property("restart_s", restarts)
    print(f"registry restarts: {[round(s, 2) for s in restarts]} s; longest silence {silence_s:.2f} s")
    assert silence_s < LEASE_S
    assert max(restarts) < LEASE_S


async def test_domain_errors_come_through_and_the_client_can_be_pickled(registry: RegistryClient) -> None:
    again: RegistryClient = pickle.loads(pickle.dumps(registry))
    with pytest.raises(NotFound, match="sha-x") as missing:
        await again.get_version("sha-x")
    assert type(missing.value) is NotFound
    await again.ensure_base(VersionRecord("base:0", VersionKind.BASE, "base", "0"))
    with pytest.raises(StaleGeneration) as stale:
        await again.set_rollout("default", [Target("base:0")], 7, "r", "p", 1.0)
    assert stale.value.metadata == {"alias": "default", "generation": "1"}
    assert (await registry.get_rollout("default")).generation == 1


async def test_a_canary_goes_on_from_its_step_after_kill_9(registry: RegistryClient) -> None:
    await registry.ensure_base(VersionRecord("base:0", VersionKind.BASE, "base", "0"))
    await registry.put_version(VersionRecord("sha-a", VersionKind.ADAPTER, "a", "0"))
    gateway = Member(registry, "gateway-0", MemberKind.GATEWAY)
    members = [gateway, Member(registry, "engine-0", MemberKind.ENGINE)]
    following = [asyncio.create_task(member.follow()) for member in members]
    spec = CanarySpec(steps=(10, 50, 100), step_s=0.0, min_requests=5)
    begun = await registry.set_rollout("default", [Target("sha-a")], 1, "r", "p", 30.0, canary=spec)
    first = begun.rollout.generation
    gateway.outcomes = (Outcome("default", first, "sha-a", 5, 0),)
    await heard(registry, "canary_step")
    gateway.outcomes += (Outcome("default", first + 1, "sha-a", 4, 0),)
    while (await stored(registry)).now_tally.version.requests < 4:
        pass
    await kill_registry(registry)
    plan = await stored(registry)
    assert (plan.step, plan.generation, plan.now_tally.version.requests) == (1, first + 1, 4)
    failing = Outcome("default", first + 1, "sha-a", 9, 5)
    gateway.outcomes = (gateway.outcomes[0], failing)
    put_back = await heard(registry, "canary_rolled_back")
    assert put_back.data["back_to"] == "base:0"
    assert (await registry.get_rollout("default")).targets == (Target("base:0"),)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)


async def stored(registry: RegistryClient) -> CanaryPlan:
    plan = await registry.get_canary("default")
    assert plan is not None
    return plan


async def heard(registry: RegistryClient, kind: str) -> EventRecord:
    """The first event of that kind, once there is one."""
    async with asyncio.timeout(60):
        while True:
            for event in await registry.events("rollout:default", 0, 1.0):
                if event.kind == kind:
                    return event
