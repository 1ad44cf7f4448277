"""A whole service on a tiny model, launched once for a folder of tests, and the calls they make of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from expunge.cli.adapter import header_of, upload
from expunge.cli.failures import Failure, of_call
from expunge.config import Settings
from expunge.gateway.launch import RunningService, launch
from expunge.gateway.service_file import read_credential
from expunge.rpc.inference.v1 import inference_pb2
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from expunge.rpc.operator.v1 import adapter_pb2, erasure_pb2, rollout_pb2
from expunge.rpc.operator.v1.adapter_pb2_grpc import AdapterServiceStub
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub
from expunge.rpc.operator.v1.rollout_pb2_grpc import RolloutServiceStub

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Deployed:
    """A running service and one channel to each of its ports."""

    service: RunningService
    inference: grpc.Channel
    operator: grpc.Channel

    @property
    def state(self) -> Path:
        return self.service.settings.state

    def metadata(self, role: str) -> Metadata:
        return (("authorization", f"Bearer {read_credential(self.state, role)}"),)

    @property
    def base(self) -> str:
        return self.service.base.version

    def ask(self, question: str, *, alias: str = "", max_tokens: int = 24) -> inference_pb2.GenerateResponse:
        request = inference_pb2.GenerateRequest(
            alias=alias,
            max_tokens=max_tokens,
            messages=[inference_pb2.Message(role="user", content=question)],
        )
        return InferenceServiceStub(self.inference).Generate(
            request, metadata=self.metadata("client"), timeout=60
        )

    def push(self, folder: Path, name: str, *, base_digest: str = "") -> adapter_pb2.PushAdapterResponse:
        header = header_of(folder, name, base_digest or self.service.base.digest)
        return self.send(upload(folder, header))

    def send(self, messages: Iterator[adapter_pb2.PushAdapterRequest]) -> adapter_pb2.PushAdapterResponse:
        return AdapterServiceStub(self.operator).PushAdapter(
            messages, metadata=self.metadata("operator"), timeout=60
        )

    def generation(self, alias: str) -> int:
        listed = RolloutServiceStub(self.operator).ListRollouts(
            rollout_pb2.ListRolloutsRequest(), metadata=self.metadata("operator"), timeout=60
        )
        return next((item.generation for item in listed.rollouts if item.alias == alias), 0)

    def roll_out(
        self, alias: str, version: str, generation: int | None = None
    ) -> rollout_pb2.SetRolloutResponse:
        request = rollout_pb2.SetRolloutRequest(
            alias=alias,
            targets=[rollout_pb2.Target(version=version, weight=100)],
            expected_generation=self.generation(alias) if generation is None else generation,
            reason="test",
        )
        return RolloutServiceStub(self.operator).SetRollout(
            request, metadata=self.metadata("operator"), timeout=90
        )

    def adapters(self) -> set[str]:
        listed = AdapterServiceStub(self.operator).ListAdapters(
            adapter_pb2.ListAdaptersRequest(include_retired=True),
            metadata=self.metadata("operator"),
            timeout=60,
        )
        return {item.id for item in listed.adapters}

    def erasures(self) -> Sequence[erasure_pb2.Erasure]:
        listed = ErasureServiceStub(self.operator).ListErasures(
            erasure_pb2.ListErasuresRequest(), metadata=self.metadata("operator"), timeout=60
        )
        return listed.erasures

    def stored_files(self) -> set[str]:
        """Every file of the service but the database's own, by path below the state folder."""
        return {
            str(path.relative_to(self.state))
            for path in self.state.rglob("*")
            if path.is_file() and not path.name.startswith("expunge.db")
        }


def processes(title: str) -> list[psutil.Process]:
    """Processes of the service launched by this one whose Ray title begins with `ray::` and `title`."""
    found = []
    for process in psutil.Process(os.getpid()).children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith(f"ray::{title}"):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def failure_of(error: grpc.RpcError) -> Failure:
    """Status, reason and field violations of a failed call."""
    return of_call(error)


@contextmanager
def deployed(settings: Settings) -> Iterator[Deployed]:
    """Launches a service and stops it, with every process it started."""
    with (
        launch(settings) as service,
        grpc.insecure_channel(service.addresses.inference) as inference,
        grpc.insecure_channel(service.addresses.operator) as operator,
    ):
        yield Deployed(service, inference, operator)
