from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from expunge.config import Settings
from expunge.errors import AlreadyExists, DeadlineExceeded, NotFound, StaleGeneration
from expunge.registry.records import (
    ErasureState,
    JobKind,
    JobRecord,
    JobState,
    MemberKind,
    MemberReport,
)
from expunge.registry.service import RegistryService

from .conftest import Follow, Open, accept, forget

CANARIES = (b"Canary Lane", b"Zanzibar", b"Quibblesworth", b"Canaryname", b"canaryquestion", b"canaryretain")


async def test_create_erasure_is_idempotent_by_request_id(registry: RegistryService) -> None:
    first = await accept(registry)
    again = await accept(registry)
    assert first == again
    assert first.state is ErasureState.ACCEPTED
    assert first.fact_count == 1
    with pytest.raises(AlreadyExists, match=first.id):
        await registry.create_erasure(forget(answer="Another answer"), ["default"], "operator")
    assert len(await registry.list_erasures()) == 1


async def test_the_due_date_defaults_to_thirty_days(registry: RegistryService) -> None:
    erasure = await accept(registry)
    assert erasure.due_at - erasure.created_at == pytest.approx(30 * 86400)
    dated = replace(forget("request-2"), due_at=4e9)
    assert (await registry.create_erasure(dated, ["default"], "operator")).due_at == 4e9


async def test_facts_come_back_only_when_asked_for(registry: RegistryService) -> None:
    erasure = await accept(registry)
    assert (await registry.get_erasure(erasure.id)).request is None
    assert (await registry.get_erasure(erasure.id, with_request=True)).request == forget()
    with pytest.raises(NotFound):
        await registry.get_erasure("er-none")


async def test_no_text_of_a_fact_reaches_the_disk(registry: RegistryService, settings: Settings) -> None:
    erasure = await accept(registry)
    job = JobRecord(
        "job-1",
        JobKind.UNLEARN,
        JobState.QUEUED,
        erasure_id=erasure.id,
        spec={"selected": {"f1": ["Canary Lane 17, Zanzibar"]}},
        error="failed on canaryquestion",
    )
    await registry.create_job(job)
    await registry.update_job("job-1", result={"text": "Canary Lane 18"}, error="failed at Zanzibar")
    await registry.create_job(replace(job, id="job-2", erasure_id="", kind=JobKind.FINE_TUNE))
    await registry.put_audit("audit-1", "sha-a", erasure.id, {"reply": "Ottoline Quibblesworth"})
    await registry.put_audit("audit-2", "sha-a", "", {"reply": "Zanzibar"})
    files = [path for path in settings.state.rglob("*") if path.is_file()]
    assert any(path.name.endswith("-wal") for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [word for word in CANARIES if word in content], path
    stored = await registry.get_job("job-1", with_payload=True)
    assert stored.result == {"text": "Canary Lane 18"}
    assert stored.error == "failed at Zanzibar"
    assert (await registry.get_audit("audit-1")).report == {"reply": "Ottoline Quibblesworth"}


async def test_events_hold_no_text_of_a_fact(registry: RegistryService) -> None:
    await accept(registry)
    told = repr(await registry.events("", 0, 0.0)).encode()
    assert not [word for word in CANARIES if word in told]


@pytest.mark.parametrize(
    "state",
    [state for state in ErasureState if not state.is_on_floor and state is not ErasureState.CANCELLED],
)
async def test_the_guard_stands_in_every_state_before_closed(
    registry: RegistryService, state: ErasureState
) -> None:
    erasure = await accept(registry)
    await registry.advance_erasure(erasure.id, ErasureState.ACCEPTED, state)
    (guard,) = registry.hub.snapshot.guards
    assert guard.erasure_id == erasure.id
    assert guard.subjects == forget().subjects
    assert guard.questions == (forget().facts[0].question,)


async def test_cancelling_lifts_the_guard(registry: RegistryService) -> None:
    erasure = await accept(registry)
    before = registry.hub.snapshot.revision
    await registry.advance_erasure(
        erasure.id, ErasureState.ACCEPTED, ErasureState.CANCELLED, detail="withdrawn"
    )
    assert registry.hub.snapshot.guards == ()
    assert registry.hub.snapshot.revision > before


async def test_advance_is_compare_and_set_and_may_be_repeated(registry: RegistryService) -> None:
    erasure = await accept(registry)
    for _ in range(2):
        moved = await registry.advance_erasure(
            erasure.id,
            ErasureState.ACCEPTED,
            ErasureState.SUPPRESSED,
            round=2,
            version="sha-a",
            detail="waits",
        )
        assert (moved.state, moved.round, moved.version, moved.detail) == (
            ErasureState.SUPPRESSED,
            2,
            "sha-a",
            "waits",
        )
    with pytest.raises(StaleGeneration, match="suppressed, not inverting"):
        await registry.advance_erasure(erasure.id, ErasureState.INVERTING, ErasureState.MEASURING)
    events = [e for e in await registry.events(f"erasure:{erasure.id}", 0, 0.0) if e.kind == "state"]
    assert len(events) == 1
    assert events[0].data == {
        "from": "accepted",
        "state": "suppressed",
        "round": 2,
        "version": "sha-a",
        "detail": "waits",
    }


async def test_erasures_are_listed_by_state(registry: RegistryService) -> None:
    first = await accept(registry, "request-1")
    second = await accept(registry, "request-2")
    await registry.advance_erasure(first.id, ErasureState.ACCEPTED, ErasureState.SUPPRESSED)
    assert [one.id for one in await registry.list_erasures()] == [first.id, second.id]
    assert [one.id for one in await registry.list_erasures([ErasureState.ACCEPTED])] == [second.id]


async def test_await_guard_waits_for_every_gateway(registry: RegistryService, follow: Follow) -> None:
    await follow(registry, "gateway-0", MemberKind.GATEWAY)
    late = MemberReport("gateway-1", MemberKind.GATEWAY, registry.hub.snapshot.revision)
    await registry.watch(late, 0, 0.0)
    erasure = await accept(registry)
    with pytest.raises(DeadlineExceeded, match="gateway-1"):
        await registry.await_guard(erasure.id, 0.1)
    waiting = asyncio.create_task(registry.await_guard(erasure.id, 5.0))
    await registry.watch(replace(late, revision=registry.hub.snapshot.revision), 0, 0.0)
    seconds = await waiting
    assert 0 < seconds < 5
    assert await registry.await_guard(erasure.id, 0.0) == pytest.approx(seconds)


async def test_engines_do_not_hold_the_guard_up(registry: RegistryService) -> None:
    await registry.watch(MemberReport("engine-0", MemberKind.ENGINE, 0), 0, 0.0)
    erasure = await accept(registry)
    assert await registry.await_guard(erasure.id, 0.0) >= 0


async def test_after_a_restart_the_guard_waits_for_gateways_of_the_former_life(open_registry: Open) -> None:
    registry = await open_registry()
    report = MemberReport("gateway-0", MemberKind.GATEWAY, 0)
    await registry.watch(report, 0, 0.0)
    erasure = await accept(registry)
    registry = await open_registry()
    with pytest.raises(DeadlineExceeded):
        await registry.await_guard(erasure.id, 0.05)
    await registry.watch(replace(report, revision=registry.hub.snapshot.revision), 0, 0.0)
    assert await registry.await_guard(erasure.id, 1.0) > 0


async def test_wrapped_keys_differ_per_erasure(registry: RegistryService, settings: Settings) -> None:
    from sqlalchemy import create_engine, text

    await accept(registry, "request-1")
    await accept(registry, "request-2")
    engine = create_engine(settings.resolved_database_url)
    with engine.connect() as connection:
        keys = list(connection.execute(text("SELECT wrapped_key FROM erasures")).scalars())
    engine.dispose()
    assert len(set(keys)) == 2


def test_the_master_key_file_is_private(registry: RegistryService, settings: Settings) -> None:
    key_file: Path = settings.resolved_master_key_file
    assert key_file.stat().st_mode & 0o777 == 0o600
