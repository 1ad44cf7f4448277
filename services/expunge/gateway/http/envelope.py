"""What every answer to one call, and every chunk of it, repeats; and how its tokens are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.errors import DeadlineExceeded
from expunge.gateway.routing import Route
from expunge.inference.request import FinishReason, TokenBatch

_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.REFUSED: "content_filter",
    FinishReason.CANCELLED: "stop",  # told to nobody: the caller is gone
}

Json = dict[str, object]


@dataclass(frozen=True)
class Envelope:
    """The fields around the choices; `model` is the alias and `system_fingerprint` the version.

    Attributes:
        kind: the API's name for the object.
        created: seconds since the epoch.
    """

    id: str
    kind: str
    created: int
    route: Route

    def around(self, choices: Sequence[Json], **more: object) -> Json:
        return {
            "id": self.id,
            "object": self.kind,
            "created": self.created,
            "model": self.route.alias,
            "system_fingerprint": self.route.version,
            "choices": list(choices),
            **more,
        }


class UsageCount:
    """Counts the tokens of one call; a prompt counts once, however often it is answered.

    Args:
        n: answers to each prompt.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._prompt = 0
        self._completion = 0

    def add(self, index: int, last: TokenBatch) -> None:
        """Count the answer `index`, whose last batch is `last`."""
        self._completion += last.completion_tokens
        if index % self._n == 0:
            self._prompt += last.prompt_tokens

    def to_json(self) -> Json:
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": self._completion,
            "total_tokens": self._prompt + self._completion,
        }


def finish_reason(finish: FinishReason | None) -> str | None:
    """The API's word for why an answer ended.

    Raises:
        DeadlineExceeded: there is none for this.
    """
    if finish is FinishReason.DEADLINE:
        raise DeadlineExceeded("the answer was not complete when the caller's time was over; allow more")
    return None if finish is None else _FINISH[finish]
