"""A canary on a running service: step by step to the whole alias, under load, with nobody moved back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
from typer.testing import CliRunner

from deployed import Deployed
from expunge.cli.main import app
from expunge.gateway.routing import resolve
from expunge.registry.records import Rollout, Target
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

CALLERS = ("client", "operator", "admin")
STREAMS_EACH = 4


@dataclass
class Seen:
    """What one caller was answered by: version → generations."""

    answers: dict[str, set[int]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    mixed: int = 0


def alias_that_splits_the_callers() -> str:
    """An alias on which, at 50 %, some of the callers are on the canary and others are not."""
    targets = (Target("old", 50), Target("new", 50))
    for number in range(100):
        alias = f"canary-{number}"
        rollouts = {alias: Rollout(alias, 1, targets)}
        if len({resolve(rollouts, alias, f"local-{caller}").version for caller in CALLERS}) == 2:
            return alias
    raise AssertionError("100 aliases in a row put all callers on one side")


def command(service: Deployed, *arguments: str) -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, [*arguments, "--state-dir", str(service.state), "--json"])
    assert result.exit_code == 0, result.stderr
    found: dict[str, dict[str, object]] = json.loads(result.stdout)
    return found


async def keep_asking(
    service: Deployed, stub: InferenceServiceStub, caller: str, alias: str, stop: asyncio.Event, seen: Seen
) -> None:
    request = pb.GenerateStreamRequest(alias=alias, max_tokens=12, prompt="The quick brown fox")
    while not stop.is_set():
        named = set()
        try:
            async for chunk in stub.GenerateStream(  # type: ignore[attr-defined]
                request, metadata=service.metadata(caller), timeout=60
            ):
                named.add((chunk.version, chunk.generation))
        except grpc.aio.AioRpcError as error:
            seen.failed.append(f"{error.code().name}: {error.details()}")
            continue
        seen.mixed += len(named) != 1
        for version, generation in named:
            seen.answers.setdefault(version, set()).add(generation)


async def test_an_adapter_takes_over_an_alias_under_load_without_a_failed_request(
    service: Deployed, adapter_folders: tuple[Path, Path]
) -> None:
    old, new = (
        service.push(folder, name).adapter.id
        for folder, name in zip(adapter_folders, ("canary-old", "canary-new"), strict=True)
    )
    alias = alias_that_splits_the_callers()
    service.roll_out(alias, old)
    seen = {caller: Seen() for caller in CALLERS}
    stop = asyncio.Event()
    async with grpc.aio.insecure_channel(service.service.addresses.inference) as channel:
        stub = InferenceServiceStub(channel)
        streams = [
            asyncio.create_task(keep_asking(service, stub, caller, alias, stop, seen[caller]))
            for caller in CALLERS
            for _ in range(STREAMS_EACH)
        ]
        arguments = ("--canary", "--steps", "50,100", "--step-seconds", "1", "--min-requests", "20")
        begun = await asyncio.to_thread(command, service, "rollout", "set", alias, "canary-new", *arguments)
        assert begun["rollout"]["canary"]["weight"] == 50  # type: ignore[index]
        async with asyncio.timeout(180):
            while True:
                shown = await asyncio.to_thread(command, service, "rollout", "show", alias)
                canary = shown["rollout"]["canary"]
                if canary["state"] != "CANARY_STATE_RUNNING":  # type: ignore[index]
                    break
        stop.set()
        await asyncio.gather(*streams)
    assert canary["state"] == "CANARY_STATE_FINISHED"  # type: ignore[index]
    assert canary["version_outcomes"]["failures"] == "0"  # type: ignore[index]
    assert [one.failed for one in seen.values()] == [[]] * len(CALLERS)
    assert sum(one.mixed for one in seen.values()) == 0
    for caller, one in seen.items():
        assert set(one.answers) == {old, new}, f"{caller} was served by both, one after the other"
        assert max(one.answers[old]) < min(one.answers[new]), f"{caller} was moved back"
    assert len({min(one.answers[new]) for one in seen.values()}) == 2, (
        "some moved at 50 %, the others at 100 %"
    )
    text = CliRunner().invoke(app, ["rollout", "show", alias, "--state-dir", str(service.state)]).stdout
    assert f"canary of {new[:12]} finished" in text
