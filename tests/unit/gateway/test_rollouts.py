"""RolloutService against a real registry, engine and gateway."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from expunge.rpc.inference.v1 import inference_pb2
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from expunge.rpc.operator.v1 import rollout_pb2 as pb
from expunge.rpc.operator.v1.adapter_pb2_grpc import AdapterServiceStub
from expunge.rpc.operator.v1.rollout_pb2_grpc import RolloutServiceStub
from gateway.conftest import LiveGateway, bearer
from gateway.uploads import Upload

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLIENT, OPERATOR = bearer("client"), bearer("operator")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def version(live: LiveGateway, tiny_adapter_folders: tuple[Path, Path]) -> str:
    upload = Upload.of(tiny_adapter_folders[0], "one", live.base.base_digest)
    pushed = await AdapterServiceStub(live.operator).PushAdapter(upload.messages(), metadata=OPERATOR)
    return pushed.adapter.id


async def test_a_rollout_changes_what_answers_and_rolls_back(live: LiveGateway, version: str) -> None:
    rollouts, inference = RolloutServiceStub(live.operator), InferenceServiceStub(live.inference)
    question = inference_pb2.GenerateRequest(prompt="The harbour", max_tokens=8)
    before = await inference.Generate(question, metadata=CLIENT)
    change = await rollouts.SetRollout(
        pb.SetRolloutRequest(
            alias="default", targets=[pb.Target(version="one")], expected_generation=1, reason="a test"
        ),
        metadata=OPERATOR,
    )
    assert change.rollout.generation == 2
    assert [(target.version, target.weight) for target in change.rollout.targets] == [(version, 100)]
    assert change.flip_ms >= 0
    assert change.confirmed_at.ToNanoseconds() >= change.committed_at.ToNanoseconds()
    after = await inference.Generate(question, metadata=CLIENT)
    assert (after.version, after.generation) == (version, 2)
    assert after.text != before.text

    stale = pb.RollbackRequest(alias="default", expected_generation=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rollouts.Rollback(stale, metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    back = await rollouts.Rollback(
        pb.RollbackRequest(alias="default", expected_generation=2, reason="back"), metadata=OPERATOR
    )
    assert back.rollout.targets[0].version == live.base.id
    assert (await inference.Generate(question, metadata=CLIENT)).text == before.text

    shown = await rollouts.GetRollout(
        pb.GetRolloutRequest(alias="default", with_history=True), metadata=OPERATOR
    )
    assert shown.rollout.generation == 3
    assert [entry.generation for entry in shown.history] == [2, 1]
    assert shown.history[0].principal == "some-operator"


@pytest.mark.parametrize(
    ("targets", "code"),
    [
        ([], grpc.StatusCode.INVALID_ARGUMENT),
        ([("base", 50), ("one", 40)], grpc.StatusCode.INVALID_ARGUMENT),
        ([("base", 0), ("one", 100)], grpc.StatusCode.INVALID_ARGUMENT),
        ([("nothing", 100)], grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_a_rollout_that_makes_no_sense_is_refused(
    live: LiveGateway, version: str, targets: list[tuple[str, int]], code: grpc.StatusCode
) -> None:
    request = pb.SetRolloutRequest(
        alias="default",
        targets=[pb.Target(version=name, weight=weight) for name, weight in targets],
        expected_generation=1,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await RolloutServiceStub(live.operator).SetRollout(request, metadata=OPERATOR)
    assert caught.value.code() is code


async def test_a_new_alias_is_made_listed_and_watched(live: LiveGateway, version: str) -> None:
    stub = RolloutServiceStub(live.operator)
    watch = stub.WatchRollouts(pb.WatchRolloutsRequest(), metadata=OPERATOR)
    await stub.SetRollout(
        pb.SetRolloutRequest(alias="second", targets=[pb.Target(version=version)]), metadata=OPERATOR
    )
    listed = await stub.ListRollouts(pb.ListRolloutsRequest(), metadata=OPERATOR)
    assert [rollout.alias for rollout in listed.rollouts] == ["default", "second"]
    async for answer in watch:
        if answer.event.topic == "rollout:second":
            assert answer.event.data["generation"] == 1
            break
    answer = await InferenceServiceStub(live.inference).Generate(
        inference_pb2.GenerateRequest(alias="second", prompt="The", max_tokens=2), metadata=CLIENT
    )
    assert answer.version == version
