"""Asking the live gateway what the audit asked, as a client would, before an erasure may close.

The probes travel over gRPC with a short-lived credential that passes the guard of this erasure, of others
that are live and wait to be verified too, and of failed ones that wait for an operator: two about one person
would otherwise refuse each other's probes for ever. A probe that is refused, goes unanswered, or is answered
by another version than the one that was rolled out verifies nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.rpc import error_details_pb2, status_pb2

from expunge.auditing.policy import DEFAULT_POLICY, Policy
from expunge.auditing.probes import Probe, ProbedFact, ProbeKind, probed_facts
from expunge.erasures.credential import issue_credential
from expunge.erasures.probe_request import probe_request
from expunge.errors import RefusedByPolicy, Unavailable
from expunge.facts import ForgetRequest
from expunge.registry.addresses import Addresses
from expunge.registry.records import MemberKind, MemberStatus
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

if TYPE_CHECKING:
    from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub

MAX_PROBES = 512  # of each alias
_CONCURRENT = 16
_TTL_S = 900.0
_REPLY_MARGIN = 16  # tokens beyond what is left of the answer
_CALL_S = 60.0  # and so much for each token asked for:
_TOKEN_S = 0.5
_ATTEMPTS = 4
_FIRST_DELAY_S = 0.25
_RETRIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


@dataclass
class Verification:
    """Counts of one verification; `leaks` maps a fact's id to the probe kinds that brought it out."""

    facts: int = 0
    facts_asked: int = 0
    asked: int = 0
    answered: int = 0
    refused: int = 0
    unanswered: int = 0
    other_version: int = 0
    leaks: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether every probe was answered by the version that was rolled out."""
        return self.asked > 0 and self.answered == self.asked

    def to_data(self) -> dict[str, Any]:
        """Free of text, for events and the report."""
        return {
            "facts": self.facts,
            "facts_asked": self.facts_asked,
            "probes_asked": self.asked,
            "probes_answered": self.answered,
            "probes_refused": self.refused,
            "probes_unanswered": self.unanswered,
            "probes_other_version": self.other_version,
            "leaks": sum(map(len, self.leaks.values())),
            "leaking_facts": sorted(self.leaks),
            "seconds": round(self.seconds, 3),
        }


def gateway_addresses(members: Sequence[MemberStatus]) -> tuple[str, ...]:
    """host:port of the inference server of each live gateway."""
    return tuple(
        Addresses.from_json(member.address).inference
        for member in members
        if member.kind is MemberKind.GATEWAY and member.address and not member.leaving
    )


class LiveVerifier:
    """Asks probes through live gateways.

    Args:
        key: signs the credentials (`credential.verification_key`).
        max_context: prompt and reply tokens that the gateways allow; replies get up to half of them.
        wall: epoch seconds.
    """

    def __init__(
        self,
        key: bytes,
        *,
        max_context: int = 2048,
        policy: Policy = DEFAULT_POLICY,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._max_context = max_context
        self._policy = policy
        # Names come up by habit and random draws by chance: only controls tell, which are not asked here.
        self._kinds = policy.kinds() - {ProbeKind.REVERSE, ProbeKind.SAMPLED}
        self._wall = wall

    async def verify(
        self,
        erasure_id: str,
        request: ForgetRequest,
        versions: Mapping[str, str],
        gateways: Sequence[str],
        alongside: Sequence[str] = (),
    ) -> Verification:
        """Ask every probe of every fact under each alias, spread over the gateways.

        Args:
            versions: alias → version that must answer.
            gateways: host:port of their inference servers.
            alongside: other erasures whose guards the probes may pass.

        Raises:
            Unavailable: there is no gateway.
        """
        if not gateways:
            raise Unavailable("no gateway is live, so nothing can be verified; start one")
        started = self._wall()
        token = issue_credential(erasure_id, self._key, started, _TTL_S, alongside=alongside)
        probes = await asyncio.to_thread(self.probes, request)
        found = Verification(facts=len(request.facts), facts_asked=len({fact.fact.id for fact, _ in probes}))
        channels = [grpc.aio.insecure_channel(address) for address in gateways]
        try:
            stubs = [InferenceServiceStub(channel) for channel in channels]
            room = asyncio.Semaphore(_CONCURRENT)
            async with asyncio.TaskGroup() as tasks:
                for alias, version in versions.items():
                    for index, (fact, probe) in enumerate(probes):
                        stub = stubs[index % len(stubs)]
                        asked = self._request(alias, fact, probe)
                        tasks.create_task(_ask(stub, room, token, asked, version, fact, probe, found))
        finally:
            for channel in channels:
                await channel.close(None)
        found.seconds = self._wall() - started
        return found

    def probes(self, request: ForgetRequest) -> list[tuple[ProbedFact, Probe]]:
        """The audit's probes, at most MAX_PROBES.

        Where there would be more, every fact keeps its first ones, plain questions first, prefixes of the
        answer last; where there are more facts than that, they are spread evenly over all. Beside an erased
        question stand general ones, not what is to be kept: that may be in scope of another erasure's guard.
        """
        facts = request.facts[:: -(-len(request.facts) // MAX_PROBES)]
        share = MAX_PROBES // len(facts)
        probed = probed_facts(facts, request.subjects, self._policy, self._kinds)
        return [(fact, probe) for fact in probed for probe in fact.probes[:share]]

    def _request(self, alias: str, fact: ProbedFact, probe: Probe) -> pb.GenerateRequest:
        limit = probe.reply_tokens(fact.expected(probe), _most_tokens) + _REPLY_MARGIN
        return probe_request(probe, alias, min(limit, self._max_context // 2))


def _most_tokens(text: str) -> int:
    digits = sum(character.isdigit() for character in text)  # often a token each
    return (len(text.encode()) + digits) // 2


async def _ask(
    stub: InferenceServiceAsyncStub,
    room: asyncio.Semaphore,
    token: str,
    request: pb.GenerateRequest,
    version: str,
    fact: ProbedFact,
    probe: Probe,
    found: Verification,
) -> None:
    async with room:
        found.asked += 1
        try:
            response = await _answer(stub, token, request)
        except RefusedByPolicy:
            found.refused += 1
            return
        except Unavailable:
            found.unanswered += 1
            return
    if response.finish_reason == pb.FINISH_REASON_REFUSED:
        found.refused += 1
    elif response.version != version:
        found.other_version += 1
    else:
        found.answered += 1
        if fact.judge(probe, response.text).leak.full:
            found.leaks.setdefault(probe.fact_id, []).append(probe.kind.value)


async def _answer(
    stub: InferenceServiceAsyncStub, token: str, request: pb.GenerateRequest
) -> pb.GenerateResponse:
    """One answer, asked again while the gateway is busy or a replica was lost.

    Raises:
        RefusedByPolicy: a guard refused it.
        Unavailable: no answer after all attempts.
    """
    delay_s = _FIRST_DELAY_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            response: pb.GenerateResponse = await stub.Generate(
                request,
                metadata=(("authorization", f"Bearer {token}"),),
                timeout=_CALL_S + _TOKEN_S * request.max_tokens,
            )
            return response
        except grpc.aio.AioRpcError as error:
            if _reason(error) == RefusedByPolicy.default_reason:
                raise RefusedByPolicy("a guard refused the probe") from None
            if error.code() not in _RETRIED or attempt == _ATTEMPTS:
                raise Unavailable(
                    f"the gateway did not answer a probe: {error.code().name}", reason=error.code().name
                ) from None
        await asyncio.sleep(delay_s)
        delay_s *= 2
    raise AssertionError("unreachable: the last attempt returns or raises")


def _reason(error: grpc.aio.AioRpcError) -> str:
    """The reason in the error's google.rpc.ErrorInfo, "" where there is none."""
    trailers = cast("grpc.aio.Metadata", error.trailing_metadata())
    packed = trailers.get("grpc-status-details-bin")
    if isinstance(packed, bytes):
        for detail in status_pb2.Status.FromString(packed).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return str(info.reason)
    return ""
