"""The demo's erasure: sent over gRPC, followed to its end."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from expunge.auditing.intervals import Share
from expunge.cli.demo.accounting import Suppression
from expunge.cli.demo.erasure_view import ErasureView
from expunge.cli.messages import as_dict
from expunge.errors import FailedPrecondition
from expunge.facts import ForgetRequest
from expunge.rpc.operator.v1 import erasure_pb2 as pb
from expunge.rpc.operator.v1.erasure_pb2_grpc import ErasureServiceStub

Metadata = tuple[tuple[str, str], ...]


class Forgetting:
    """One erasure as its operator sees it."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata) -> None:
        self._stub = ErasureServiceStub(channel)
        self._metadata = metadata
        self.view = ErasureView()
        self._id = ""
        self._detail = ""

    def ask(self, request: ForgetRequest) -> pb.Erasure:
        """Sends the erasure.

        Raises:
            grpc.RpcError: it was not accepted.
        """
        erasure = self._stub.CreateErasure(creation(request), metadata=self._metadata, timeout=60).erasure
        self._id = erasure.id
        return erasure

    def follow(self) -> Iterator[str]:
        """Each state as it is entered, until the final one."""
        for response in self._stub.WatchErasure(
            pb.WatchErasureRequest(erasure_id=self._id), metadata=self._metadata
        ):
            if state := self.view.take(response):
                yield state

    def check_closed(self) -> None:
        """Raises FailedPrecondition, with the service's own words, unless the erasure was closed."""
        if self.view.state != "closed":
            asked = pb.GetErasureRequest(erasure_id=self._id)
            erasure = self._stub.GetErasure(asked, metadata=self._metadata, timeout=30).erasure
            raise FailedPrecondition(f"the erasure ended {self.view.state}, not closed: {erasure.detail}")

    def controls(self, version: str) -> dict[str, Share]:
        """What `version` scored on controls in its audit, by figure, as the erasure's report tells.

        Raises:
            FailedPrecondition: the report holds no audit of that version.
        """
        asked = pb.GetReportRequest(erasure_id=self._id)
        report = as_dict(self._stub.GetReport(asked, metadata=self._metadata, timeout=30).report)
        for audit in report["audits"]:
            if audit["version"] == version:
                return {figure["name"]: Share.from_dict(figure["control"]) for figure in audit["figures"]}
        raise FailedPrecondition(f"the report of erasure {self._id} holds no audit of version {version}")

    @property
    def seconds_suppressed(self) -> float | None:
        """Seconds from acceptance to the last gateway's confirmation of the guard."""
        told = self.view.confirmed_s
        return told if told is not None else self.view.seconds("suppressed")

    @property
    def flip_ms(self) -> float | None:
        """Milliseconds from the rollout's commit to the last confirmation."""
        told = self.view.figures.get("live", {}).get("flip_ms")
        return None if told is None else float(told)

    @property
    def suppression(self) -> Suppression:
        """When it began, was confirmed and was lifted."""
        entered = self.view.entered
        return Suppression(entered["accepted"], entered["suppressed"], entered["closed"])


def creation(request: ForgetRequest) -> pb.CreateErasureRequest:
    """The message that asks for the erasure of a person's facts."""
    return pb.CreateErasureRequest(
        request_id=request.request_id,
        kind=pb.ERASURE_KIND_PERSONAL_DATA,
        subjects=[pb.Subject(name=item.name, other_names=item.other_names) for item in request.subjects],
        facts=[
            pb.Fact(
                id=fact.id,
                question=fact.question,
                answer=fact.answer,
                secrets=fact.secrets,
                paraphrases=fact.paraphrases,
                subject=fact.subject,
            )
            for fact in request.facts
        ],
        retain=[pb.RetainExample(question=item.question, answer=item.answer) for item in request.retain],
        ground=request.ground,
    )
