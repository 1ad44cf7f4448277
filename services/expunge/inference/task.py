"""Requests as the engine's thread works on them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from expunge.errors import DeadlineExceeded, ExpungeError
from expunge.inference.codec import TextCodec
from expunge.inference.detokeniser import Detokeniser
from expunge.inference.phases import Phases
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    Priority,
    ScoreRequest,
    ScoreResult,
    TokenBatch,
    TokenScore,
)
from expunge.inference.sampler import Sampler
from expunge.inference.stops import StopStrings

Item = TokenBatch | ScoreResult | ExpungeError
Deliver = Callable[[Item], None]


class Task(ABC):
    """One request: the tokens to prefill, and where its results go.

    `needs_row` says whether it goes on decoding after its prefill; `is_counted` whether a use of the version
    was counted for it.

    Attributes:
        version: what it runs on, from first token to last.
        slot: where that version is resident; valid until the task ends.
        tokens: what is to be prefilled.
        deadline: seconds since the epoch, or None.
        client: whose share of the engine it takes.
        arrival: its number in the waiting queue.
        written: generated tokens so far.
        is_sound: false once its logits were not finite; nothing computed for it is kept then.
        refusal: why it is put out of the waiting queue.
        is_cancelled: set by the caller's side; the engine drops the task before its next step.
        has_ended: set by the engine once nothing more will be delivered.
        phases: how long it waited and ran; the engine says when its prefill begins.
    """

    needs_row: bool
    is_counted = True

    def __init__(
        self, version: str, slot: int, tokens: list[int], deadline: float | None, deliver: Deliver
    ) -> None:
        self.version = version
        self.slot = slot
        self.tokens = tokens
        self.deadline = deadline
        self.deliver = deliver
        self.client = ""
        self.priority = Priority.INTERACTIVE
        self.arrival = 0
        self.written: list[int] = []
        self.is_sound = True
        self.refusal: ExpungeError | None = None
        self.is_cancelled = False
        self.has_ended = False
        self.phases = Phases(time.monotonic)

    @property
    @abstractmethod
    def wanted(self) -> range:
        """Positions in `tokens` after which logits are needed."""

    @abstractmethod
    def expire(self) -> None:
        """Tell the caller that the deadline has passed."""


class Generation(Task):
    """A text being generated."""

    needs_row = True

    def __init__(
        self,
        request: GenerationRequest,
        slot: int,
        tokens: list[int],
        context: int,
        codec: TextCodec,
        deliver: Deliver,
    ) -> None:
        super().__init__(request.version, slot, tokens, request.deadline, deliver)
        self.client, self.priority = request.client, request.priority
        self.limit = min(request.max_tokens, context - len(tokens))
        self.sampler = Sampler(request.sampling) if request.sampling.temperature > 0 else None
        self.produced = 0
        self._eos_ids = codec.eos_ids
        self._detokeniser = Detokeniser(codec)
        self._stops = StopStrings(request.stop)

    @property
    def wanted(self) -> range:
        return range(len(self.tokens) - 1, len(self.tokens))

    @property
    def final_length(self) -> int:
        """Positions it holds at most."""
        return len(self.tokens) + self.limit

    def take(self, token: int) -> bool:
        """Send `token` on; false when the text is complete."""
        if token in self._eos_ids:
            self.finish(FinishReason.STOP)
            return False
        self.written.append(token)
        self.produced += 1
        text, stopped = self._stops.push(self._detokeniser.push(token))
        if stopped:
            self._send(text, (token,), FinishReason.STOP)
        elif self.produced >= self.limit:
            self._send(text + self._rest(), (token,), FinishReason.LENGTH)
        else:
            self._send(text, (token,), None)
            return True
        return False

    def finish(self, reason: FinishReason) -> None:
        """End the text here, with whatever was held back."""
        self._send(self._rest(), (), reason)

    def expire(self) -> None:
        self.finish(FinishReason.DEADLINE)

    def _rest(self) -> str:
        text, stopped = self._stops.push(self._detokeniser.finish())
        return text if stopped else text + self._stops.finish()

    def _send(self, text: str, tokens: tuple[int, ...], finish: FinishReason | None) -> None:
        usage = (len(self.tokens), self.produced) if finish else (0, 0)
        self.deliver(TokenBatch(text, tokens, self.version, finish, *usage))


class Scoring(Task):
    """A given text whose log-likelihood is asked for."""

    needs_row = False

    def __init__(
        self,
        request: ScoreRequest,
        slot: int,
        context: Sequence[int],
        continuation: Sequence[int],
        codec: TextCodec,
        deliver: Deliver,
    ) -> None:
        super().__init__(request.version, slot, [*context, *continuation][:-1], request.deadline, deliver)
        self.client, self.priority = request.client, request.priority
        self._request_id = request.request_id
        self._first = len(context) - 1
        self._continuation = list(continuation)
        self._codec = codec
        self._scores: list[TokenScore] = []

    @property
    def wanted(self) -> range:
        return range(self._first, len(self.tokens))

    def take(self, logits: Tensor) -> None:
        """Score the next tokens from the logits before each, [tokens, vocabulary]; after the last, send."""
        logits = logits.float()
        best, total = logits.argmax(-1).tolist(), logits.logsumexp(-1).tolist()
        start = len(self._scores)
        for row, token in enumerate(self._continuation[start : start + len(best)]):
            logprob = float(logits[row, token]) - total[row]
            text = self._codec.decode([token], skip_special=False)
            self._scores.append(TokenScore(token, text, logprob, best[row] == token))
        if len(self._scores) == len(self._continuation):
            self.deliver(ScoreResult(self.version, tuple(self._scores)))

    def expire(self) -> None:
        self.deliver(
            DeadlineExceeded(
                f"request {self._request_id} was not scored before its deadline; allow more time"
            )
        )
