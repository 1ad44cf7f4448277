"""A canary through two real gateways, many callers, and an engine that can fail for one version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
import yaml
from google.protobuf.duration_pb2 import Duration

from expunge.errors import ExpungeError
from expunge.gateway.gateway import Gateway
from expunge.gateway.tokens import TokenTable
from expunge.inference.engine import Engine
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.rpc.inference.v1 import inference_pb2
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from expunge.rpc.operator.v1 import rollout_pb2 as pb
from expunge.rpc.operator.v1.adapter_pb2_grpc import AdapterServiceStub
from expunge.rpc.operator.v1.rollout_pb2_grpc import RolloutServiceStub
from gateway.conftest import VERIFICATION_KEY, LiveGateway, bearer
from gateway.uploads import Upload

pytestmark = pytest.mark.asyncio(loop_scope="module")
OPERATOR = bearer("operator")
CALLERS = 24
AT_ONCE = Duration()


class FailingFor:
    """The engine, but requests for the versions in `failing` end in an error instead of their last token."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.failing: set[str] = set()

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenBatch]:
        async for batch in self._engine.generate(request):
            if batch.finish is not None and request.version in self.failing:
                raise ExpungeError("the engine failed on this request")
            yield batch

    async def score(self, request: ScoreRequest) -> ScoreResult:
        return await self._engine.score(request)


def caller(number: int) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer token-{number}"),)


def write_callers(path: Path) -> Path:
    entries = [
        {
            "token_sha256": sha256(f"token-{number}".encode()).hexdigest(),
            "principal": f"caller-{number}",
            "role": "client",
        }
        for number in range(CALLERS)
    ]
    path.write_text(yaml.safe_dump({"tokens": entries}))
    return path


@dataclass
class Two:
    """Two gateways in front of one engine, and the versions to move between."""

    live: LiveGateway
    engine: FailingFor
    gateways: list[Gateway]
    stubs: list[InferenceServiceStub]
    old: str
    new: str
    rollouts: RolloutServiceStub = field(init=False)

    def __post_init__(self) -> None:
        self.rollouts = RolloutServiceStub(self.live.operator)

    async def begin(self, alias: str, canary: pb.Canary) -> pb.Rollout:
        """The first step of a canary from `old` to `new` on a new alias."""
        first = pb.SetRolloutRequest(alias=alias, targets=[pb.Target(version=self.old)])
        await self.rollouts.SetRollout(first, metadata=OPERATOR)
        request = pb.SetRolloutRequest(
            alias=alias, targets=[pb.Target(version=self.new)], expected_generation=1, canary=canary
        )
        return (await self.rollouts.SetRollout(request, metadata=OPERATOR)).rollout

    async def shown(self, alias: str) -> pb.Rollout:
        request = pb.GetRolloutRequest(alias=alias)
        return (await self.rollouts.GetRollout(request, metadata=OPERATOR)).rollout

    async def ask(self, gateway: int, number: int, alias: str) -> inference_pb2.GenerateResponse:
        question = inference_pb2.GenerateRequest(alias=alias, prompt="The harbour", max_tokens=4)
        return await self.stubs[gateway].Generate(question, metadata=caller(number), timeout=60)

    def sample(self, gateway: int, name: str, **labels: str) -> float | None:
        return self.gateways[gateway].metrics.registry.get_sample_value(name, labels)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def two(
    live: LiveGateway, tiny_adapter_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Two]:
    versions = []
    for name, folder in zip(("old", "new"), tiny_adapter_folders, strict=True):
        upload = Upload.of(folder, name, live.base.base_digest)
        pushed = await AdapterServiceStub(live.operator).PushAdapter(upload.messages(), metadata=OPERATOR)
        versions.append(pushed.adapter.id)
    engine = FailingFor(live.engine)
    tokens = TokenTable.read(write_callers(tmp_path_factory.mktemp("callers") / "tokens.yaml"))
    gateways = [
        Gateway(
            live.settings,
            f"gateway-{number}",
            registry=live.registry,
            engine=engine,
            blobs=live.blobs,
            tokens=tokens,
            verification_key=VERIFICATION_KEY,
        )
        for number in (1, 2)
    ]
    for gateway in gateways:
        await gateway.start()
    channels = [grpc.aio.insecure_channel(gateway.addresses.inference) for gateway in gateways]
    stubs = [InferenceServiceStub(channel) for channel in channels]
    yield Two(live, engine, gateways, stubs, *versions)
    for channel in channels:
        await channel.close()
    for gateway in gateways:
        await gateway.drain(notice_s=0.0, grace_s=2.0)


async def test_callers_move_to_the_canary_once_and_never_back_on_both_gateways(two: Two) -> None:
    canary = pb.Canary(steps=[20, 60, 100], step_duration=AT_ONCE, min_requests=30)
    begun = await two.begin("sticky", canary)
    assert [(target.version, target.weight) for target in begun.targets] == [(two.old, 80), (two.new, 20)]
    assert (begun.canary.step, begun.canary.weight) == (1, 20)
    seen: dict[int, dict[str, set[int]]] = {number: {} for number in range(CALLERS)}
    chosen: dict[tuple[int, int], set[str]] = {}

    async def keep_asking(gateway: int, number: int) -> None:
        while (await two.shown("sticky")).canary.state == pb.CANARY_STATE_RUNNING:
            answer = await two.ask(gateway, number, "sticky")
            seen[number].setdefault(answer.version, set()).add(answer.generation)
            chosen.setdefault((number, answer.generation), set()).add(answer.version)

    asking = [keep_asking(gateway, number) for gateway in (0, 1) for number in range(CALLERS)]
    async with asyncio.timeout(120):
        await asyncio.gather(*asking)
    shown = await two.shown("sticky")
    assert shown.canary.state == pb.CANARY_STATE_FINISHED
    assert [target.version for target in shown.targets] == [two.new]
    assert all(len(versions) == 1 for versions in chosen.values()), "gateways agree at each generation"
    for generations in seen.values():
        assert max(generations.get(two.old, {0})) < min(generations.get(two.new, {99}))
    for gateway in (0, 1):
        answered = two.sample(
            gateway, "expunge_version_requests_total", alias="sticky", version=two.new, code="OK"
        )
        assert answered is not None
        first_tokens = two.sample(
            gateway, "expunge_time_to_first_token_seconds_count", alias="sticky", version=two.new
        )
        assert first_tokens == answered
        assert two.sample(gateway, "expunge_inter_token_seconds_count", alias="sticky", version=two.new)
        assert two.sample(gateway, "expunge_canary_weight", alias="sticky", version=two.new) is None


async def test_a_canary_whose_calls_fail_is_put_back_by_itself(two: Two) -> None:
    two.engine.failing = {two.new}
    canary = pb.Canary(steps=[50, 100], step_duration=Duration(seconds=3600), max_error_rate=0.2)
    await two.begin("failing", canary)
    assert two.sample(0, "expunge_canary_weight", alias="failing", version=two.new) == 50
    failed = 0
    async with asyncio.timeout(60):
        while (await two.shown("failing")).canary.state == pb.CANARY_STATE_RUNNING:
            for gateway in (0, 1):
                asked = [two.ask(gateway, number, "failing") for number in range(CALLERS)]
                outcomes = await asyncio.gather(*asked, return_exceptions=True)
                errors = [one for one in outcomes if isinstance(one, BaseException)]
                assert all(isinstance(one, grpc.aio.AioRpcError) for one in errors)
                failed += len(errors)
    assert failed > 0
    shown = await two.shown("failing")
    assert shown.canary.state == pb.CANARY_STATE_ROLLED_BACK
    assert "above the threshold of 20.00%" in shown.canary.detail
    assert [(target.version, target.weight) for target in shown.targets] == [(two.old, 100)]
    answers = await asyncio.gather(*(two.ask(0, number, "failing") for number in range(CALLERS)))
    assert {answer.version for answer in answers} == {two.old}
    labels = {"alias": "failing", "version": two.new}
    counted = [
        two.sample(gateway, "expunge_version_request_failures_total", code="INTERNAL", **labels) or 0
        for gateway in (0, 1)
    ]
    assert sum(counted) == failed
    assert two.sample(0, "expunge_automatic_rollbacks_total", **labels) == 1
    two.engine.failing = set()


async def test_mistakes_of_callers_do_not_put_a_canary_back(two: Two) -> None:
    canary = pb.Canary(steps=[100], step_duration=Duration(seconds=3600), min_requests=1, max_error_rate=0.0)
    await two.begin("mistaken", canary)
    question = inference_pb2.GenerateRequest(alias="mistaken", prompt="The", max_tokens=10**6)
    for number in range(CALLERS):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await two.stubs[0].Generate(question, metadata=caller(number))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await two.ask(0, 0, "mistaken")
    async with asyncio.timeout(30):
        while not (shown := await two.shown("mistaken")).canary.version_outcomes.requests:
            pass
    assert shown.canary.state == pb.CANARY_STATE_RUNNING
    assert shown.canary.version_outcomes.failures == 0


async def test_a_second_canary_is_a_failed_precondition_that_says_what_to_do(two: Two) -> None:
    await two.begin("busy", pb.Canary())
    generation = (await two.shown("busy")).generation
    again = pb.SetRolloutRequest(
        alias="busy",
        targets=[pb.Target(version="base")],
        expected_generation=generation,
        canary=pb.Canary(),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await two.rollouts.SetRollout(again, metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "roll back, or set the rollout without a canary" in (caught.value.details() or "")
    canary = (await two.shown("busy")).canary
    assert (list(canary.canary.steps), canary.canary.min_requests) == ([1, 10, 50, 100], 20)
    assert (canary.canary.step_duration.seconds, canary.canary.max_error_rate) == (60, 0.05)
    assert canary.detail.startswith("step 1 of 4 (1 %): ")
    listed = await two.rollouts.ListRollouts(pb.ListRolloutsRequest(), metadata=OPERATOR)
    assert {one.alias: one.canary.state for one in listed.rollouts}["busy"] == pb.CANARY_STATE_RUNNING
    back = pb.RollbackRequest(alias="busy", expected_generation=generation, to_version=two.old)
    ended = await two.rollouts.Rollback(back, metadata=OPERATOR)
    assert not ended.rollout.HasField("canary")
    kinds = []
    async for answer in two.rollouts.WatchRollouts(pb.WatchRolloutsRequest(alias="busy"), metadata=OPERATOR):
        kinds.append(answer.event.kind)
        if answer.event.kind == "canary_ended":
            break
    assert "canary_began" in kinds


@pytest.mark.parametrize(
    "canary", [pb.Canary(steps=[50, 10]), pb.Canary(max_error_rate=5.0), pb.Canary(steps=[10, 90])]
)
async def test_a_canary_that_makes_no_sense_is_an_invalid_argument(two: Two, canary: pb.Canary) -> None:
    request = pb.SetRolloutRequest(
        alias="default", targets=[pb.Target(version=two.new)], expected_generation=1, canary=canary
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await two.rollouts.SetRollout(request, metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
