"""TrainingService and AuditService against a real registry; the test plays the worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from expunge.gateway.operator import event_stream
from expunge.registry.records import ErasureState, JobKind, JobState, Verdict
from expunge.rpc.operator.v1 import audit_pb2, erasure_pb2, training_pb2
from expunge.rpc.operator.v1.adapter_pb2_grpc import AdapterServiceStub
from expunge.rpc.operator.v1.audit_pb2_grpc import AuditServiceStub
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub
from expunge.rpc.operator.v1.rollout_pb2 import SetRolloutRequest, Target
from expunge.rpc.operator.v1.rollout_pb2_grpc import RolloutServiceStub
from expunge.rpc.operator.v1.training_pb2_grpc import TrainingServiceStub
from expunge.unlearning.jobs import AuditSpec, FineTuneSpec
from gateway.conftest import LiveGateway, bearer
from gateway.erasure_requests import erasure_about
from gateway.uploads import Upload

pytestmark = pytest.mark.asyncio(loop_scope="module")
OPERATOR = bearer("operator")


def fine_tune(request_id: str, **changes: object) -> training_pb2.CreateFineTuneRequest:
    fields: dict[str, object] = {
        "request_id": request_id,
        "name": "taught",
        "examples": [training_pb2.TrainingExample(question="Who?", answer="Nobody.")],
    }
    return training_pb2.CreateFineTuneRequest(**(fields | changes))


async def test_a_fine_tune_becomes_a_job_with_the_documented_defaults(live: LiveGateway) -> None:
    created = await TrainingServiceStub(live.operator).CreateFineTune(fine_tune("ft-1"), metadata=OPERATOR)
    assert created.job.kind == training_pb2.JOB_KIND_FINE_TUNE
    assert created.job.state == training_pb2.JOB_STATE_QUEUED
    spec = FineTuneSpec.from_dict((await live.registry.get_job("ft-1", with_payload=True)).spec or {})
    assert (spec.rank, spec.alpha, spec.max_steps, spec.learning_rate) == (16, 32.0, 60, 3e-3)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "../up"}, "name"),
        ({"examples": []}, "examples"),
        ({"examples": [training_pb2.TrainingExample(question="Who?")]}, "examples[0].answer"),
        ({"rank": 4096}, "rank"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"max_steps": 10**6}, "max_steps"),
    ],
)
async def test_a_bad_fine_tune_names_its_field(
    live: LiveGateway, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await TrainingServiceStub(live.operator).CreateFineTune(
            fine_tune("ft-bad", **changes), metadata=OPERATOR
        )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (caught.value.details() or "")


async def test_ids_of_the_service_s_own_jobs_can_not_be_taken(live: LiveGateway) -> None:
    audits, training = AuditServiceStub(live.operator), TrainingServiceStub(live.operator)
    for taken in ("er-0123456789abcdef-r1-invert", "audit-0123456789abcdef0123"):
        audit = audit_pb2.CreateAuditRequest(request_id=taken, version="base", erasure_ids=["x"])
        for call in (
            audits.CreateAudit(audit, metadata=bearer("auditor")),
            training.CreateFineTune(fine_tune(taken), metadata=OPERATOR),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "request_id" in (caught.value.details() or "")


async def test_a_page_token_of_any_length_is_refused_by_name(live: LiveGateway) -> None:
    request = training_pb2.ListJobsRequest(page_token="9" * 5000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await TrainingServiceStub(live.operator).ListJobs(request, metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "page_token" in (caught.value.details() or "")


async def test_the_same_id_with_other_content_is_refused(live: LiveGateway) -> None:
    stub = TrainingServiceStub(live.operator)
    first = await stub.CreateFineTune(fine_tune("ft-2"), metadata=OPERATOR)
    assert (await stub.CreateFineTune(fine_tune("ft-2"), metadata=OPERATOR)).job.id == first.job.id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateFineTune(fine_tune("ft-2", seed=5), metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_job_is_watched_to_its_end_and_shows_its_result(live: LiveGateway) -> None:
    stub = TrainingServiceStub(live.operator)
    await stub.CreateFineTune(fine_tune("ft-3"), metadata=OPERATOR)
    watch = aiter(stub.WatchJob(training_pb2.WatchJobRequest(job_id="ft-3"), metadata=OPERATOR))
    assert (await anext(watch)).state == training_pb2.JOB_STATE_QUEUED
    await live.registry.update_job("ft-3", state=JobState.RUNNING, worker="worker-0")
    await live.registry.update_job("ft-3", progress={"step": 1, "steps": 2})
    await live.registry.update_job("ft-3", state=JobState.SUCCEEDED, result={"version": "v", "steps": 2})
    async with asyncio.timeout(10):
        rest = [answer async for answer in watch]
    assert rest[-1].state == training_pb2.JOB_STATE_SUCCEEDED
    assert any(answer.event.kind == "progress" for answer in rest)
    job = (await stub.GetJob(training_pb2.GetJobRequest(job_id="ft-3"), metadata=OPERATOR)).job
    assert job.result["version"] == "v"
    assert job.progress["step"] == 1


async def test_watches_are_bounded_so_that_leases_can_be_kept(
    live: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_STREAMS", 1)
    stub = TrainingServiceStub(live.operator)
    job = (await stub.CreateFineTune(fine_tune("ft-watched"), metadata=OPERATOR)).job
    request = training_pb2.WatchJobRequest(job_id=job.id)
    first = stub.WatchJob(request, metadata=bearer("auditor"))
    assert (await first.read()).state == training_pb2.JOB_STATE_QUEUED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.WatchJob(request, metadata=bearer("auditor")).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    first.cancel()
    async with asyncio.timeout(5.0):
        while True:
            try:
                assert (await stub.WatchJob(request, metadata=bearer("auditor")).read()) is not None
                break
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(0.02)


async def test_a_job_is_cancelled_once(live: LiveGateway) -> None:
    stub = TrainingServiceStub(live.operator)
    await stub.CreateFineTune(fine_tune("ft-4"), metadata=OPERATOR)
    request = training_pb2.CancelJobRequest(job_id="ft-4")
    cancelled = await stub.CancelJob(request, metadata=OPERATOR)
    assert cancelled.job.state == training_pb2.JOB_STATE_CANCELLED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CancelJob(request, metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    listed = await stub.ListJobs(
        training_pb2.ListJobsRequest(
            states=[training_pb2.JOB_STATE_CANCELLED], kinds=[training_pb2.JOB_KIND_FINE_TUNE]
        ),
        metadata=OPERATOR,
    )
    assert [job.id for job in listed.jobs] == ["ft-4"]


async def test_a_version_pushed_over_a_floor_waits_for_its_audit(
    live: LiveGateway, tiny_adapter_folders: tuple[Path, Path]
) -> None:
    adapters, rollouts = AdapterServiceStub(live.operator), RolloutServiceStub(live.operator)
    one, two = (
        Upload.of(folder, name, live.base.base_digest)
        for folder, name in zip(tiny_adapter_folders, ("one", "two"), strict=True)
    )
    first = await adapters.PushAdapter(one.messages(), metadata=OPERATOR)
    erasure_id = await close_erasure(live, first.adapter.id)

    second = await adapters.PushAdapter(two.messages(), metadata=OPERATOR)
    assert second.audit_id
    job = await live.registry.get_job(second.audit_id, with_payload=True)
    assert job.kind is JobKind.AUDIT
    assert AuditSpec.from_dict(job.spec or {}) == AuditSpec(
        second.adapter.id, [erasure_id], live_version=first.adapter.id
    )
    again = await adapters.PushAdapter(two.messages(), metadata=OPERATOR)
    assert (again.existed, again.audit_id) == (True, second.audit_id)

    request = SetRolloutRequest(alias="default", targets=[Target(version="two")], expected_generation=2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rollouts.SetRollout(request, metadata=OPERATOR)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert erasure_id in (caught.value.details() or "")

    report = {"passed": True, "gates": [], "evidence": [{"reply": "the secret itself"}]}
    await live.registry.update_job(
        job.id, state=JobState.SUCCEEDED, result={"passed": True, "reports": {erasure_id: report}}
    )
    await live.registry.put_verdicts([Verdict(second.adapter.id, erasure_id, "policy", True, job.id)])
    audit = (
        await AuditServiceStub(live.operator).GetAudit(
            audit_pb2.GetAuditRequest(audit_id=job.id), metadata=bearer("auditor")
        )
    ).audit
    assert audit.passed
    assert audit.version == second.adapter.id
    assert "secret" not in str(audit)
    assert (await rollouts.SetRollout(request, metadata=OPERATOR)).rollout.generation == 3


async def test_an_audit_is_started_listed_and_needs_something_to_audit(live: LiveGateway) -> None:
    stub = AuditServiceStub(live.operator)
    request = audit_pb2.CreateAuditRequest(request_id="audit-1", version="base")
    created = await stub.CreateAudit(request, metadata=bearer("auditor"))
    assert created.audit.state == training_pb2.JOB_STATE_QUEUED
    assert created.audit.version == live.base.id
    assert not created.audit.HasField("passed")
    listed = await stub.ListAudits(audit_pb2.ListAuditsRequest(version="base"), metadata=bearer("auditor"))
    assert [audit.id for audit in listed.audits] == ["audit-1"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetAudit(audit_pb2.GetAuditRequest(audit_id="ft-1"), metadata=bearer("auditor"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def close_erasure(live: LiveGateway, version: str) -> str:
    """Take an erasure through its life, with `version` to carry it; returns its id."""
    stub = ErasureServiceStub(live.operator)
    erasure: erasure_pb2.Erasure = (
        await stub.CreateErasure(erasure_about("Floor Person"), metadata=OPERATOR)
    ).erasure
    await live.registry.set_policy("policy")
    await live.registry.put_verdicts([Verdict(version, erasure.id, "policy", True, "an audit")])
    await RolloutServiceStub(live.operator).SetRollout(
        SetRolloutRequest(alias="default", targets=[Target(version=version)], expected_generation=1),
        metadata=OPERATOR,
    )
    state = ErasureState.ACCEPTED
    for following in (ErasureState.LIVE, ErasureState.CLOSED):
        await live.registry.advance_erasure(erasure.id, state, following, version=version)
        state = following
    return erasure.id
