"""Asks the served model about facts, as a client would over gRPC, and judges what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from expunge.auditing.intervals import Share
from expunge.auditing.leaks import FoldedText, Secret
from expunge.auditing.probes import Probe, ProbedFact, ProbeKind, Reply
from expunge.cli.failures import of_call
from expunge.erasures.probe_request import probe_request
from expunge.errors import Unavailable
from expunge.facts import Fact
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

ASKED = (ProbeKind.DIRECT, ProbeKind.PARAPHRASE, ProbeKind.PREFIX)
REPLY_MARGIN = 8  # tokens beyond what is left of the true answer


@dataclass(frozen=True)
class Finding:
    """How often one kind of probe brought something back.

    Attributes:
        facts: facts of which some probe of the kind gave a secret away in full.
        full: replies that gave a secret away in full.
        partial: replies that gave away any secret word.
    """

    facts: Share
    full: Share
    partial: Share

    @classmethod
    def of(cls, replies: Sequence[Reply]) -> Finding:
        by_fact: dict[str, bool] = {}
        for reply in replies:
            by_fact[reply.probe.fact_id] = by_fact.get(reply.probe.fact_id, False) or reply.leak.full
        return cls(
            Share.of(by_fact.values()),
            Share.of(reply.leak.full for reply in replies),
            Share.of(reply.leak.partial for reply in replies),
        )


@dataclass(frozen=True)
class Interrogation:
    """Every reply about some facts, and what they gave away by kind of probe."""

    replies: tuple[Reply, ...]

    def finding(self, kind: ProbeKind) -> Finding:
        return Finding.of([reply for reply in self.replies if reply.probe.kind is kind])

    def told(self, fact: Fact) -> str:
        """The reply to the fact's own question."""
        return next(
            reply.text
            for reply in self.replies
            if reply.probe.fact_id == fact.id and reply.probe.kind is ProbeKind.DIRECT
        )


class Interrogator:
    """Asks one service.

    Args:
        count_tokens: length of a text in tokens.
        streams: questions asked at a time.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        token: str,
        alias: str,
        *,
        count_tokens: Callable[[str], int],
        streams: int = 32,
        timeout_s: float = 120.0,
    ) -> None:
        self._stub = InferenceServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._alias = alias
        self._count_tokens = count_tokens
        self._streams = streams
        self._timeout_s = timeout_s

    def examine(self, facts: Iterable[Fact], on_reply: Callable[[], None] = lambda: None) -> Interrogation:
        """Asks every probe of the kinds ASKED about `facts`, greedily.

        Raises:
            Unavailable: a probe was refused or failed; a probe without an answer proves nothing.
        """
        asked = [
            (probed, probe)
            for probed in (ProbedFact(fact, kinds=ASKED) for fact in facts)
            for probe in probed.probes
        ]

        def one(pair: tuple[ProbedFact, Probe]) -> Reply:
            probed, probe = pair
            limit = probe.reply_tokens(probed.expected(probe), self._count_tokens)
            reply = probed.judge(probe, self._answer(self._request(probe, limit)))
            on_reply()
            return reply

        with ThreadPoolExecutor(self._streams) as pool:
            return Interrogation(tuple(pool.map(one, asked)))

    def correct(self, facts: Sequence[Fact]) -> list[bool]:
        """Whether each fact's own question is answered with every word of its secrets."""

        def one(fact: Fact) -> bool:
            probe = Probe(fact.id, ProbeKind.DIRECT, fact.question)
            text = FoldedText(self._answer(self._request(probe, self._count_tokens(fact.answer))))
            return all(text.holds(word) for span in Secret.of(fact).spans for word in span.words)

        with ThreadPoolExecutor(self._streams) as pool:
            return list(pool.map(one, facts))

    def _request(self, probe: Probe, tokens: int) -> pb.GenerateRequest:
        return probe_request(probe, self._alias, tokens + REPLY_MARGIN)

    def _answer(self, request: pb.GenerateRequest) -> str:
        try:
            return self._generate(request).text
        except grpc.RpcError as error:
            failure = of_call(error)
            raise Unavailable(f"a probe went unanswered ({failure.status}): {failure.sentence}") from error

    def _generate(self, request: pb.GenerateRequest) -> pb.GenerateResponse:
        return self._stub.Generate(request, metadata=self._metadata, timeout=self._timeout_s)
