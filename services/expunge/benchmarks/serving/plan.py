"""What a load process is told and what it tells: one JSON line each. Free of everything heavy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class TargetKind(StrEnum):
    """What is asked."""

    EXPUNGE = "expunge"  # the inference API, over gRPC
    OPENAI = "openai"  # a peer's completions API, over HTTP
    ENGINE = "engine"  # the engine class, in the load process itself


@dataclass(frozen=True)
class Target:
    """Whom a load process asks, for as long as it lives.

    Attributes:
        address: host:port, or the URL of a peer.
        peer: which peer it is; decides how it is kept from ending its answers early.
        end_tokens: token ids that end an answer; they are made impossible.
        settings: of the service, for the engine in process.
        adapters: model name → folder of its adapter, for the engine in process; "" : the base version.
    """

    kind: TargetKind
    address: str = ""
    token: str = ""
    peer: str = ""
    end_tokens: tuple[int, ...] = ()
    settings: Mapping[str, str] | None = None
    adapters: Mapping[str, str] | None = None

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Target:
        fields = json.loads(line)
        return cls(**fields | {"kind": TargetKind(fields["kind"]), "end_tokens": tuple(fields["end_tokens"])})


@dataclass(frozen=True)
class Ask:
    """One request: a raw prompt to a model name."""

    model: str
    prompt: str
    max_tokens: int


@dataclass(frozen=True)
class Plan:
    """One load.

    Attributes:
        asks: the requests, in the order in which they are sent.
        streams: closed loop: so many are always under way. 0: open loop.
        gaps_s: open loop: seconds between two sends, one for each request; they never wait for an answer.
        timeout_s: of one request.
        is_endless: closed loop: begins anew with its first request, until it is told to end.
    """

    asks: tuple[Ask, ...]
    streams: int = 0
    gaps_s: tuple[float, ...] = ()
    timeout_s: float = 300.0
    is_endless: bool = False

    def to_line(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Plan:
        fields = json.loads(line)
        asks = tuple(Ask(**ask) for ask in fields["asks"])
        return cls(**fields | {"asks": asks, "gaps_s": tuple(fields["gaps_s"])})


@dataclass(frozen=True)
class Response:
    """What became of one request; times are monotonic seconds of the load process.

    Attributes:
        arrivals: when something arrived, and how many tokens it was.
        tokens: generated tokens in all, as the service counts them.
        prompt_tokens: as the service counts them; 0 where it does not say.
        versions: every version that the chunks named.
        error: why it failed, "" where it did not.
    """

    model: str
    sent: float
    done: float
    arrivals: tuple[tuple[float, int], ...] = ()
    tokens: int = 0
    prompt_tokens: int = 0
    versions: tuple[str, ...] = ()
    error: str = ""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Response:
        arrivals = tuple((float(at), int(count)) for at, count in fields["arrivals"])
        return cls(**fields | {"arrivals": arrivals, "versions": tuple(fields["versions"])})


def responses_to_line(responses: tuple[Response, ...]) -> str:
    return json.dumps([asdict(response) for response in responses])


def responses_from_line(line: str) -> tuple[Response, ...]:
    return tuple(Response.of(fields) for fields in json.loads(line))
