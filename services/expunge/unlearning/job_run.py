"""One job while a worker does it: the bridge from the computing thread to the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from expunge.errors import Cancelled, DataLoss, FailedPrecondition, InvalidRequest, StaleGeneration
from expunge.facts import ForgetRequest
from expunge.registry.blobs import BlobStore
from expunge.registry.records import (
    AuditRecord,
    ErasureRecord,
    ErasureState,
    JobRecord,
    JobState,
    Verdict,
    VersionRecord,
)
from expunge.unlearning.checkpoint import Checkpoint
from expunge.unlearning.trainer import Progress, Trainer

Value = TypeVar("Value")


class JobRegistry(Protocol):
    """What a worker needs of the registry; `RegistryService` and `RegistryClient` both are one."""

    async def get_job(self, job_id: str, with_payload: bool = False) -> JobRecord: ...
    async def update_job(
        self,
        job_id: str,
        *,
        state: JobState | None = None,
        worker: str | None = None,
        attempt: int | None = None,
        progress: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
        expected_state: JobState | None = None,
        expected_attempt: int | None = None,
    ) -> JobRecord: ...
    async def get_version(self, id_or_name: str) -> VersionRecord: ...
    async def put_version(self, record: VersionRecord) -> VersionRecord: ...
    async def get_erasure(self, erasure_id: str, with_request: bool = False) -> ErasureRecord: ...
    async def put_audit(
        self, audit_id: str, version: str, erasure_id: str, report: dict[str, Any]
    ) -> Any: ...
    async def get_audit(self, audit_id: str) -> AuditRecord: ...
    async def list_verdicts(self, version: str = "", erasure_id: str = "") -> Sequence[Verdict]: ...
    async def put_verdicts(self, verdicts: Sequence[Verdict]) -> None: ...
    async def advance_erasure(
        self,
        erasure_id: str,
        expected_state: ErasureState,
        state: ErasureState,
        *,
        detail: str = "",
        data: Mapping[str, Any] | None = None,
        verdicts: Sequence[Verdict] = (),
        principal: str = "controller",
    ) -> ErasureRecord: ...


@dataclass
class JobRun:
    """Calls from the computing thread; every one of them waits for its answer.

    Attributes:
        job: as it was read at the start, spec included.
        attempt: this run's number; another number in the registry means that another worker took over.
        loop: where the registry's coroutines run; not the computing thread's own.
    """

    job: JobRecord
    attempt: int
    registry: JobRegistry
    blobs: BlobStore
    loop: asyncio.AbstractEventLoop

    def call(self, coroutine: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine on the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def report(self, **progress: Any) -> None:
        """Store progress (figures only, no fact text).

        Raises:
            Cancelled: the job is no longer running, or another worker has it.
        """
        try:
            record = self.call(
                self.registry.update_job(
                    self.job.id,
                    progress=progress,
                    expected_state=JobState.RUNNING,
                    expected_attempt=self.attempt,
                )
            )
        except (StaleGeneration, FailedPrecondition) as error:
            raise Cancelled(f"job {self.job.id} was cancelled or taken over; this run ends") from error
        if record.state is not JobState.RUNNING or record.attempt != self.attempt:
            raise Cancelled(
                f"job {self.job.id} is {record.state.value}, attempt {record.attempt}; this run ends"
            )

    def version(self, id_or_name: str) -> VersionRecord:
        """The record of a version. Raises NotFound."""
        return self.call(self.registry.get_version(id_or_name))

    def request(self, erasure_id: str) -> ForgetRequest:
        """The plain facts of an erasure. Raises InvalidRequest where they were shredded."""
        record = self.call(self.registry.get_erasure(erasure_id, with_request=True))
        if record.request is None:
            raise InvalidRequest.of("erasure_id", f"the facts of erasure {erasure_id} are no longer there")
        return record.request

    @property
    def checkpoint_key(self) -> str:
        return f"jobs/{self.job.id}/checkpoint.safetensors"

    def resume(self, trainer: Trainer) -> int:
        """Set `trainer` to the last checkpoint, if there is one; returns the step it goes on from.

        A checkpoint that can't be read, or that belongs to other factors, is dropped: training starts again.
        """
        if not self.blobs.exists(self.checkpoint_key):
            return 0
        try:
            trainer.restore(Checkpoint.from_bytes(self.blobs.get_bytes(self.checkpoint_key)))
        except DataLoss:
            self.blobs.delete(self.checkpoint_key)
        return trainer.result.steps

    def save(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint; the blob store makes it visible as a whole or not at all."""
        self.blobs.put_bytes(self.checkpoint_key, checkpoint.to_bytes())

    def forget_checkpoint(self) -> None:
        """Delete the checkpoint of a job whose end is stored; another attempt would need it until then."""
        if self.blobs.exists(self.checkpoint_key):
            self.blobs.delete(self.checkpoint_key)

    def report_step(self, progress: Progress) -> None:
        """Progress after a training step."""
        self.report(
            stage="training",
            step=progress.step,
            steps=progress.steps,
            seconds=round(progress.seconds, 3),
            loss=progress.losses["loss"],
            losses=progress.losses,
        )
