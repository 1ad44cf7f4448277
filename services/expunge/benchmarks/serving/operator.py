"""What the benchmark does as an operator: push adapters, set rollouts, and flip one alias all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from google.protobuf.duration_pb2 import Duration

from expunge.cli.adapter import header_of, upload
from expunge.errors import FailedPrecondition
from expunge.rpc.operator.v1 import adapter_pb2, rollout_pb2
from expunge.rpc.operator.v1.adapter_pb2_grpc import AdapterServiceStub
from expunge.rpc.operator.v1.rollout_pb2_grpc import RolloutServiceStub

REASON = "benchmark"
TIMEOUT_S = 120.0
Metadata = tuple[tuple[str, str], ...]


class Operator:
    """Calls of an operator over one channel; each raises grpc.RpcError when it is refused."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata) -> None:
        self._adapters = AdapterServiceStub(channel)
        self._rollouts = RolloutServiceStub(channel)
        self._metadata = metadata

    def base(self) -> tuple[str, str]:
        """Id of the base version, and digest of the base model.

        Raises:
            FailedPrecondition: none has been registered.
        """
        request, is_last = adapter_pb2.ListAdaptersRequest(), False
        while not is_last:
            page = self._adapters.ListAdapters(request, metadata=self._metadata, timeout=TIMEOUT_S)
            for item in page.adapters:
                if item.kind == adapter_pb2.VERSION_KIND_BASE:
                    return item.id, item.base_digest
            request.page_token = page.next_page_token
            is_last = not request.page_token
        raise FailedPrecondition("no base model has been registered; start the service first")

    def push(self, folder: Path, name: str, base_digest: str) -> str:
        """Uploads the adapter in `folder` and returns its version."""
        header = header_of(folder, name, base_digest)
        response = self._adapters.PushAdapter(
            upload(folder, header), metadata=self._metadata, timeout=TIMEOUT_S
        )
        return str(response.adapter.id)

    def generation(self, alias: str) -> int:
        """The alias's generation; 0 where there is no such alias."""
        listed = self._rollouts.ListRollouts(
            rollout_pb2.ListRolloutsRequest(), metadata=self._metadata, timeout=TIMEOUT_S
        )
        return next((item.generation for item in listed.rollouts if item.alias == alias), 0)

    def roll_out(self, alias: str, version: str, generation: int) -> int:
        """Points the alias, whose generation is `generation`, at the version; returns the new one."""
        request = rollout_pb2.SetRolloutRequest(
            alias=alias,
            targets=[rollout_pb2.Target(version=version, weight=100)],
            expected_generation=generation,
            reason=REASON,
            timeout=Duration(seconds=int(TIMEOUT_S)),
        )
        response = self._rollouts.SetRollout(request, metadata=self._metadata, timeout=TIMEOUT_S + 5)
        return int(response.rollout.generation)


class Flipper:
    """Flips an alias between two versions while its block runs, and leaves it at the first.

    Args:
        period_s: between the beginnings of two rollouts; one that takes longer is followed at once.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        operator: Operator,
        alias: str,
        versions: tuple[str, str],
        period_s: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._operator = operator
        self._alias = alias
        self._versions = versions
        self._period_s = period_s
        self._clock = clock
        self.flips = 0

    def __enter__(self) -> Self:
        self.flips = 0
        self._over = threading.Event()
        self._failure: grpc.RpcError | None = None
        self._generation = self._operator.generation(self._alias)
        self._thread = threading.Thread(target=self._flip, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if kind is None and self._failure is not None:
            raise self._failure
        if self.flips % 2:
            self._operator.roll_out(self._alias, self._versions[0], self._generation)

    def _flip(self) -> None:
        due = self._clock()
        try:
            while not self._over.wait(max(0.0, due - self._clock())):
                version = self._versions[(self.flips + 1) % 2]
                self._generation = self._operator.roll_out(self._alias, version, self._generation)
                self.flips += 1
                due = max(due + self._period_s, self._clock())
        except grpc.RpcError as error:
            self._failure = error
