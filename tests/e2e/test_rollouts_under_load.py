"""Promise 1: a rollout drops no request, and a request runs on one version from first token to last."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest

from deployed import Deployed
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

ALIAS = "flip"
ROLLOUTS = 200
STREAMS = 16
TOKENS = 24
PROMPTS = (
    "Where was Mira Voss born?",
    "The quick brown fox",
    "How many people work there?",
    "What is the capital of the island?",
    "She studied medicine",
)


@dataclass
class Tally:
    """What the streams saw."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    wrong_text: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def versions(service: Deployed, adapter_folders: tuple[Path, Path]) -> tuple[str, str]:
    first, second = adapter_folders
    return service.push(first, "flip-one").adapter.id, service.push(second, "flip-two").adapter.id


@pytest.fixture(scope="module")
def texts(service: Deployed, versions: tuple[str, str]) -> dict[str, dict[str, str]]:
    """What each version (the base too) answers to each prompt, asked alone."""
    found: dict[str, dict[str, str]] = {}
    for version in (service.base, *versions):
        service.roll_out(ALIAS, version)
        answers = {prompt: service.ask(prompt, alias=ALIAS, max_tokens=TOKENS) for prompt in PROMPTS}
        assert {answer.version for answer in answers.values()} == {version}
        found[version] = {prompt: answer.text for prompt, answer in answers.items()}
    return found


def test_the_versions_can_be_told_apart_by_every_answer(texts: dict[str, dict[str, str]]) -> None:
    for prompt in PROMPTS:
        assert len({answers[prompt] for answers in texts.values()}) == 3


async def test_200_rollouts_under_16_streams_drop_and_mix_nothing(
    service: Deployed, versions: tuple[str, str], texts: dict[str, dict[str, str]]
) -> None:
    tally = Tally()
    stop = asyncio.Event()
    async with grpc.aio.insecure_channel(service.service.addresses.inference) as channel:
        stub = InferenceServiceStub(channel)
        streams = [
            asyncio.create_task(_keep_asking(stub, service.metadata("client"), number, stop, texts, tally))
            for number in range(STREAMS)
        ]
        generation = service.generation(ALIAS)
        for number in range(ROLLOUTS):
            change = await asyncio.to_thread(service.roll_out, ALIAS, versions[number % 2], generation)
            assert change.rollout.generation == generation + 1
            generation = change.rollout.generation
        stop.set()
        await asyncio.gather(*streams)
    assert tally.failed == []
    assert tally.mixed == []
    assert tally.wrong_text == []
    assert tally.versions == set(versions), "both versions, and never the base"
    assert tally.answered >= ROLLOUTS / 2


async def test_a_new_request_sees_the_new_version_once_the_call_has_returned(
    service: Deployed, versions: tuple[str, str]
) -> None:
    for version in (*versions, *versions):
        change = await asyncio.to_thread(service.roll_out, ALIAS, version)
        answer = await asyncio.to_thread(service.ask, PROMPTS[0], alias=ALIAS, max_tokens=1)
        assert (answer.version, answer.generation) == (version, change.rollout.generation)


async def _keep_asking(
    stub: InferenceServiceStub,
    metadata: tuple[tuple[str, str], ...],
    number: int,
    stop: asyncio.Event,
    texts: dict[str, dict[str, str]],
    tally: Tally,
) -> None:
    turn = number
    while not stop.is_set():
        prompt = PROMPTS[turn % len(PROMPTS)]
        turn += 1
        request = pb.GenerateStreamRequest(
            alias=ALIAS, max_tokens=TOKENS, messages=[pb.Message(role="user", content=prompt)]
        )
        text, named = "", set()
        try:
            async for chunk in stub.GenerateStream(request, metadata=metadata, timeout=60):  # type: ignore[attr-defined]
                text += chunk.text
                named.add((chunk.version, chunk.generation))
        except grpc.aio.AioRpcError as error:
            tally.failed.append(f"{error.code().name}: {error.details()}")
            continue
        tally.answered += 1
        if len(named) != 1:
            tally.mixed.append(f"{prompt!r} named {named}")
            continue
        version, _ = next(iter(named))
        tally.versions.add(version)
        if text != texts[version][prompt]:
            tally.wrong_text.append(f"{prompt!r} of {version[:12]}: {text!r}")
