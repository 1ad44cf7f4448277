"""A replica holds what the registry wants, says what it holds, and lets nothing bad hold it up."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from expunge.errors import FailedPrecondition, Unavailable
from expunge.inference.request import GenerationRequest
from expunge.inference.version_follower import VersionFollower

from .replica import Pause, Replica, Script, following, snapshot, soon


async def test_it_is_ready_once_everything_wanted_is_staged(replica: Replica) -> None:
    async with following(replica):
        await soon(replica.follower.ready())
        assert replica.engine.staged() == (replica.base.id,)


async def test_it_follows_a_rollout_and_leaves_no_files(replica: Replica) -> None:
    async with following(replica):
        await replica.roll_out(replica.good)
        assert replica.good.id in replica.engine.staged()
        assert list(replica.folder.iterdir()) == []


async def test_a_version_that_cannot_be_staged_is_reported_and_harms_nothing(replica: Replica) -> None:
    async with following(replica):
        await soon(replica.follower.ready())
        with pytest.raises(FailedPrecondition, match="engine-0"):
            await replica.roll_out(replica.damaged)
        assert replica.engine.staged() == (replica.base.id,)
        assert list(replica.folder.iterdir()) == []
        await replica.roll_out(replica.good)
        assert replica.good.id in replica.engine.staged()


async def test_a_mended_version_is_staged_when_it_is_wanted_again(
    replica: Replica, tiny_adapter_folders: tuple[Path, Path]
) -> None:
    async with following(replica):
        with contextlib.suppress(FailedPrecondition):
            await replica.roll_out(replica.damaged)
        replica.blobs.put_folder(tiny_adapter_folders[1], replica.damaged.blob)
        await replica.roll_out(replica.damaged)
        assert replica.damaged.id in replica.engine.staged()


async def test_a_lost_registry_is_followed_again(replica: Replica) -> None:
    script = Script(Unavailable("gone"), snapshot(1, replica.base))
    replica.follower = VersionFollower(script, replica.engine, replica.blobs, "engine-0", replica.folder)
    async with following(replica):
        await soon(script.until(1, {replica.base.id}, set()))


async def test_a_bad_version_that_is_only_tried_does_not_hold_up_readiness(replica: Replica) -> None:
    script = Script(snapshot(1, replica.good, replica.damaged))
    replica.follower = VersionFollower(script, replica.engine, replica.blobs, "engine-0", replica.folder)
    async with following(replica):
        await soon(replica.follower.ready())
        await soon(script.until(1, {replica.good.id}, {replica.damaged.id}))
        assert replica.follower.longest_missing_s() == 0


async def test_an_active_version_that_is_missing_is_noticed(replica: Replica) -> None:
    now = [0.0]
    script = Script(snapshot(1, replica.damaged, replica.good))
    replica.follower = VersionFollower(
        script, replica.engine, replica.blobs, "engine-0", replica.folder, lambda: now[0]
    )
    async with following(replica):
        await soon(script.until(1, {replica.good.id}, {replica.damaged.id}))
        now[0] = 40.0
        assert replica.follower.longest_missing_s() == 40
        ready = asyncio.ensure_future(replica.follower.ready())
        await asyncio.wait([ready], timeout=0)
        assert not ready.done()
        ready.cancel()


async def test_a_version_that_was_just_replaced_still_takes_what_was_admitted_to_it(replica: Replica) -> None:
    script, linger = Script(snapshot(1, replica.base, replica.good)), Pause()
    follower = replica.follower = VersionFollower(
        script, replica.engine, replica.blobs, "engine-0", replica.folder, sleep=linger
    )
    async with following(replica):
        await soon(follower.ready())
        follower._follow(snapshot(2, replica.good))
        await soon(linger.begun.wait())
        request = GenerationRequest("late", replica.base.id, prompt="The", max_tokens=1)
        answer = [batch async for batch in replica.engine.generate(request)]
        assert answer[-1].version == replica.base.id
        unloading = follower._unloading[replica.base.id]
        follower._follow(snapshot(3, replica.good, replica.base))  # wanted again in time
        linger.over.set()
        await soon(asyncio.wait({unloading}))
        assert replica.base.id in replica.engine.staged()


async def test_what_is_no_longer_wanted_is_unloaded(replica: Replica) -> None:
    script, linger = Script(snapshot(1, replica.base, replica.good)), Pause()
    replica.follower = VersionFollower(
        script, replica.engine, replica.blobs, "engine-0", replica.folder, sleep=linger
    )
    async with following(replica):
        await soon(script.until(1, {replica.base.id, replica.good.id}, set()))
        replica.follower._follow(snapshot(2, replica.good))
        await soon(linger.begun.wait())
        assert replica.base.id in replica.engine.staged()
        linger.over.set()
        await soon(script.until(2, {replica.good.id}, set()))
