"""Gets the demo's adapter: from a worker the first time, from the cache afterwards, over gRPC both times."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc

from expunge.cli.adapter import CONFIG, WEIGHTS, header_of, receive, upload
from expunge.cli.messages import as_dict
from expunge.errors import FailedPrecondition
from expunge.facts import Fact
from expunge.rpc.operator.v1 import adapter_pb2, training_pb2
from expunge.rpc.operator.v1.adapter_pb2_grpc import AdapterServiceStub
from expunge.rpc.operator.v1.training_pb2_grpc import TrainingServiceStub

NAME = "demo-taught"
RECIPE = 1  # raise when fine-tuning changes so much that a cached adapter no longer stands for it

Metadata = tuple[tuple[str, str], ...]
OnStep = Callable[[dict[str, Any]], None]


class Teacher:
    """Teaches facts by a fine-tune job and keeps the adapter in `cache`."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata, cache: Path, base_digest: str) -> None:
        self._adapters = AdapterServiceStub(channel)
        self._training = TrainingServiceStub(channel)
        self._metadata = metadata
        self._cache = cache / "demo"
        self._base_digest = base_digest

    def folder(self, facts: tuple[Fact, ...]) -> Path:
        """Where the adapter that knows `facts` is, or will be, kept."""
        asked = [[fact.question, fact.answer] for fact in facts]
        key = sha256(json.dumps([RECIPE, self._base_digest, asked]).encode()).hexdigest()[:32]
        return self._cache / key

    def is_cached(self, facts: tuple[Fact, ...]) -> bool:
        return all((self.folder(facts) / name).is_file() for name in (WEIGHTS, CONFIG))

    def train(self, facts: tuple[Fact, ...], on_step: OnStep) -> None:
        """Runs the job and fetches its adapter into the cache.

        Raises:
            FailedPrecondition: the job failed.
        """
        folder = self.folder(facts)
        examples = [
            training_pb2.TrainingExample(question=fact.question, answer=fact.answer) for fact in facts
        ]
        request = training_pb2.CreateFineTuneRequest(
            request_id=f"demo-{folder.name}", name=NAME, examples=examples, rank=16, alpha=32
        )
        job = self._training.CreateFineTune(request, metadata=self._metadata, timeout=60).job
        watching = training_pb2.WatchJobRequest(job_id=job.id)
        for response in self._training.WatchJob(watching, metadata=self._metadata):
            if response.event.kind == "progress":
                on_step(as_dict(response.event)["data"])
        asked = training_pb2.GetJobRequest(job_id=job.id)
        job = self._training.GetJob(asked, metadata=self._metadata, timeout=60).job
        if job.state != training_pb2.JOB_STATE_SUCCEEDED:
            raise FailedPrecondition(f"the fine-tune job {job.id} failed: {job.error or 'it was cancelled'}")
        self._fetch(str(as_dict(job.result)["version"]), folder)

    def push(self, facts: tuple[Fact, ...]) -> adapter_pb2.AdapterVersion:
        """Uploads the cached adapter, as one trained elsewhere would be."""
        folder = self.folder(facts)
        header = header_of(folder, NAME, self._base_digest)
        return self._adapters.PushAdapter(
            upload(folder, header), metadata=self._metadata, timeout=120
        ).adapter

    def _fetch(self, version: str, folder: Path) -> None:
        fresh = folder.with_name(folder.name + ".part")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        request = adapter_pb2.DownloadAdapterRequest(version=version)
        receive(self._adapters.DownloadAdapter(request, metadata=self._metadata, timeout=120), fresh)
        fresh.rename(folder)
