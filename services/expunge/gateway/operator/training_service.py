"""TrainingService: fine-tuning, and a view of every job."""

from __future__ import annotations

from collections.abc import AsyncIterator

from expunge.config import Settings
from expunge.errors import FailedPrecondition, InvalidRequest, StaleGeneration
from expunge.gateway.chain import Context
from expunge.gateway.operator.event_stream import EventStream
from expunge.gateway.operator.fine_tune import fine_tune_job
from expunge.gateway.operator.job_intake import create_once
from expunge.gateway.operator.paging import newest_first, page_of
from expunge.gateway.operator.translation import event_message, job_message, job_state
from expunge.gateway.unbuilt import not_built
from expunge.gateway.upstream import RegistryUpstream
from expunge.registry.records import JobKind, JobState
from expunge.rpc.operator.v1 import training_pb2 as pb
from expunge.rpc.operator.v1 import training_pb2_grpc as pb_grpc

_CANCEL_TRIES = 5


class TrainingService(pb_grpc.TrainingServiceServicer):
    """Creates and shows jobs; the dispatcher gives them to workers."""

    def __init__(self, registry: RegistryUpstream, stream: EventStream, settings: Settings) -> None:
        self._registry = registry
        self._stream = stream
        self._settings = settings

    async def CreateFineTune(
        self, request: pb.CreateFineTuneRequest, context: Context
    ) -> pb.CreateFineTuneResponse:
        parent = (await self._registry.get_version(request.parent)).id if request.parent else ""
        job = fine_tune_job(request, parent, self._settings.max_rank)
        return pb.CreateFineTuneResponse(job=job_message(await create_once(self._registry, job)))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        return pb.GetJobResponse(
            job=job_message(await self._registry.get_job(request.job_id, with_payload=True))
        )

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        states = tuple(_state(value) for value in request.states)
        kinds = tuple(_kind(value) for value in request.kinds)
        found = newest_first(await self._registry.list_jobs(states=states, kinds=kinds))
        page, token = page_of(found, request.page_size, request.page_token)
        return pb.ListJobsResponse(jobs=[job_message(job) for job in page], next_page_token=token)

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        job = await self._registry.get_job(request.job_id)
        topic = f"job:{job.id}"

        async def has_ended() -> bool:
            return (await self._registry.get_job(job.id)).state.is_final

        async for event in self._stream.events(
            topic, request.after_seq, wanted=lambda event: event.topic == topic, has_ended=has_ended
        ):
            state = JobState(event.data["state"])
            yield pb.WatchJobResponse(event=event_message(event), state=job_state(state))

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        for _ in range(_CANCEL_TRIES):
            job = await self._registry.get_job(request.job_id)
            if job.erasure_id:
                raise FailedPrecondition(
                    f"job {job.id} belongs to erasure {job.erasure_id}; cancel the erasure instead"
                )
            if job.state.is_final:
                raise FailedPrecondition(f"job {job.id} has already {job.state}")
            try:
                cancelled = await self._registry.update_job(
                    job.id, state=JobState.CANCELLED, expected_state=job.state
                )
            except StaleGeneration:  # a worker took or ended it meanwhile: look again
                continue
            return pb.CancelJobResponse(job=job_message(cancelled))
        raise StaleGeneration(f"job {request.job_id} keeps changing its state; try again")

    async def SetPool(self, request: pb.SetPoolRequest, context: Context) -> pb.SetPoolResponse:
        raise not_built("SetPool")


def _state(value: pb.JobState.ValueType) -> JobState:
    try:
        return JobState[pb.JobState.Name(value).removeprefix("JOB_STATE_")]
    except (KeyError, ValueError) as error:
        raise InvalidRequest.of("states", f"{value} is not a state a job can be in") from error


def _kind(value: pb.JobKind.ValueType) -> JobKind:
    try:
        return JobKind[pb.JobKind.Name(value).removeprefix("JOB_KIND_")]
    except (KeyError, ValueError) as error:
        raise InvalidRequest.of("kinds", f"{value} is not a kind of job") from error
