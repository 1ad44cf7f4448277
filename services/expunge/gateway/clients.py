"""What each client holds of this gateway, and whether it may take more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from expunge.errors import Overloaded
from expunge.gateway.demand import Demand
from expunge.gateway.quotas import Quota, TokenBucket

RETRY_AFTER_S = 1.0  # where nobody can tell when a place becomes free


@dataclass
class _Client:
    """One client's answers under way, and its bucket where it has a token rate."""

    bucket: TokenBucket | None
    held: int = 0


class Clients:
    """The clients of one gateway process. Takes at once or refuses; nobody waits here.

    Args:
        places: answers under way at once, of all clients together. A client may hold as many as it leaves
            free, so that there are always some for the others: one alone at most half of them, two that
            take what they can a third each, and so on (dynamic thresholds: Choudhury and Hahne, 1998).
        clock: monotonic seconds.
    """

    def __init__(self, places: int, clock: Callable[[], float]) -> None:
        self._places = places
        self._free = places
        self._clock = clock
        self._clients: dict[str, _Client] = {}

    @property
    def held(self) -> int:
        return self._places - self._free

    def held_by(self, name: str) -> int:
        return self._clients[name].held if name in self._clients else 0

    def take(self, name: str, quota: Quota, demand: Demand) -> None:
        """Hold places and tokens for `demand`, until `release`.

        Raises:
            Overloaded: naming the limit that is reached, and when to try again; without a time where the
                request can never fit.
        """
        client = self._clients.get(name) or self._new(quota)
        self._require_concurrency(name, client, quota, demand.answers)
        self._require_place(name, client, demand.answers)
        if client.bucket is not None:
            _require_tokens(name, client.bucket, quota, demand.tokens)
            client.bucket.take(demand.tokens)
        self._clients[name] = client
        client.held += demand.answers
        self._free -= demand.answers

    def release(self, name: str, demand: Demand, used_tokens: int) -> None:
        """Give back what `take` held for `demand`, of its tokens those that were not used."""
        client = self._clients[name]
        client.held -= demand.answers
        self._free += demand.answers
        if client.bucket is not None:
            client.bucket.settle(demand.tokens, used_tokens)
        self._forget_idle()

    def _new(self, quota: Quota) -> _Client:
        if not quota.tokens_per_minute:
            return _Client(None)
        return _Client(TokenBucket(quota.tokens_per_minute, quota.burst, self._clock))

    def _forget_idle(self) -> None:
        """Keep nothing of those that a new record would describe as well."""
        for name, client in tuple(self._clients.items()):
            if not client.held and (client.bucket is None or client.bucket.is_full):
                del self._clients[name]

    def _require_concurrency(self, name: str, client: _Client, quota: Quota, answers: int) -> None:
        limit = quota.max_concurrent
        if answers > limit:
            raise _never(name, "max_concurrent", limit, f"{answers} answers at once", "ask for fewer")
        if client.held + answers > limit:
            raise _refusal(
                "CONCURRENCY_QUOTA",
                f"client {name} has {client.held} answers under way; its quota max_concurrent allows {limit} "
                f"on this gateway; wait until one has ended",
                (name, "max_concurrent", limit),
                RETRY_AFTER_S,
            )

    def _require_place(self, name: str, client: _Client, answers: int) -> None:
        if client.held + answers > self._free:
            raise _refusal(
                "GATEWAY_FULL",
                f"{self.held} answers are under way in this gateway, {client.held} of them of client {name}; "
                f"it takes {self._places} (max_requests), and no client more than it leaves free; try again",
                (name, "max_requests", self._places),
                RETRY_AFTER_S,
            )


def _require_tokens(name: str, bucket: TokenBucket, quota: Quota, tokens: int) -> None:
    wait_s = bucket.seconds_until(tokens)
    if math.isinf(wait_s):
        cost = f"{tokens} tokens, its prompt and max_tokens together"
        raise _never(name, "burst_tokens", quota.burst, cost, "lower max_tokens or n, or shorten the prompt")
    if wait_s > 0:
        raise _refusal(
            "TOKEN_QUOTA",
            f"client {name} has {bucket.level:.0f} tokens left, and this request may take {tokens}; its "
            f"quota tokens_per_minute gives {quota.tokens_per_minute} on this gateway; "
            f"try again in {wait_s:.1f} s",
            (name, "tokens_per_minute", quota.tokens_per_minute),
            wait_s,
        )


def _never(name: str, quota: str, limit: int, cost: str, remedy: str) -> Overloaded:
    return _refusal(
        "REQUEST_ABOVE_QUOTA",
        f"this request takes {cost}; the quota {quota} of client {name} never allows more than {limit}; "
        f"{remedy}",
        (name, quota, limit),
        None,
    )


def _refusal(
    reason: str, message: str, quota: tuple[str, str, int], retry_after_s: float | None
) -> Overloaded:
    name, id_, limit = quota
    metadata = {"subject": f"client:{name}", "quota": id_, "limit": str(limit)}
    return Overloaded(message, reason=reason, metadata=metadata, retry_after_s=retry_after_s)
