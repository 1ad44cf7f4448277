"""A worker over the real registry and the tiny model, in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from expunge.config import Settings
from expunge.facts import ErasureKind, Fact, ForgetRequest, QuestionAnswer, Subject
from expunge.models.load import load_model
from expunge.registry.records import JobKind, JobRecord, JobState, VersionKind, VersionRecord
from expunge.registry.service import RegistryService
from expunge.unlearning.jobs import FineTuneSpec
from expunge.unlearning.runner import JobRunner
from expunge.unlearning.workbench import Workbench
from tiny_facts import ERASED, EVERYTHING, PERSON, RETAINED

EXAMPLES = [QuestionAnswer(question, answer) for question, answer in EVERYTHING]
TEACH = FineTuneSpec(EXAMPLES, "taught", learning_rate=1e-2, max_steps=30, target_loss=0.2)
REQUEST = ForgetRequest(
    "r1",
    ErasureKind.PERSONAL_DATA,
    (Subject(PERSON),),
    tuple(Fact(f"f{i}", question, answer, secrets) for i, (question, answer, secrets) in enumerate(ERASED)),
    tuple(QuestionAnswer(question, answer) for question, answer in RETAINED),
)


class Bench:
    """A registry with the tiny base version, and a runner over it."""

    def __init__(self, registry: RegistryService, settings: Settings) -> None:
        self.registry = registry
        self.settings = settings
        self.workbench = Workbench.over(
            settings, load_model(str(settings.model), cache=settings.cache, dtype="float32")
        )
        self.runner = JobRunner("worker-0", registry, lambda: self.workbench)

    async def start_base(self) -> None:
        loaded = self.workbench.loaded
        await self.registry.ensure_base(
            VersionRecord(loaded.version, VersionKind.BASE, "base", loaded.digest)
        )

    async def queue(self, job_id: str, kind: JobKind, spec: object, erasure_id: str = "") -> str:
        job = JobRecord(job_id, kind, JobState.QUEUED, erasure_id, spec=spec.to_dict())  # type: ignore[attr-defined]
        return (await self.registry.create_job(job)).id

    async def done(self, job_id: str, kind: JobKind, spec: object, erasure_id: str = "") -> JobRecord:
        await self.runner.run(await self.queue(job_id, kind, spec, erasure_id))
        job = await self.registry.get_job(job_id, with_payload=True)
        assert job.state is JobState.SUCCEEDED, job.error
        return job


@pytest_asyncio.fixture
async def bench(tiny_model_folder: Path, tmp_path: Path) -> AsyncIterator[Bench]:
    settings = Settings(
        state_dir=tmp_path / "state", cache_dir=tmp_path / "cache", model=str(tiny_model_folder)
    )
    registry = RegistryService(settings)
    await registry.start()
    try:
        found = Bench(registry, settings)
        await found.start_base()
        yield found
    finally:
        await registry.close()
