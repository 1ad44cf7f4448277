"""Requests as the engine's thread works on them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor

from expunge.errors import DeadlineExceeded, ExpungeError
from expunge.inference.answer_text import AnswerText
from expunge.inference.codec import TextCodec
from expunge.inference.phases import Phases
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    Priority,
    ScoreRequest,
    ScoreResult,
    TokenBatch,
    TokenLogprob,
    TokenScore,
)
from expunge.inference.sampler import Sampler
from expunge.inference.token_logprobs import PromptLogprobs, TokenLogprobs, logprob_of, rows_of

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
        """Positions in `tokens` after which logits are still needed."""

    @abstractmethod
    def take_prompt(self, logits: Tensor) -> None:
        """Read the logits after the next of the positions `wanted`, [positions, vocabulary].

        They may come in pieces; a task that needs no row is complete after the last.
        """

    @abstractmethod
    def expire(self) -> None:
        """Tell the caller that the deadline has passed."""


class Generation(Task):
    """A text being generated."""

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
        self.needs_row = self.limit > 0
        self.sampler = (
            Sampler(request.sampling, tokens, request.choice) if Sampler.is_needed(request.sampling) else None
        )
        self.logprobs = None if request.logprobs is None else TokenLogprobs(request.logprobs, codec)
        self._prompt = (
            PromptLogprobs(self.logprobs, tokens) if self.logprobs and request.prompt_logprobs else None
        )
        self._text = AnswerText(codec, request.stop, self.limit)

    @property
    def wanted(self) -> range:
        last = len(self.tokens) - 1
        return range(min(self._prompt.read, last) if self._prompt else last, len(self.tokens))

    @property
    def final_length(self) -> int:
        """Positions it holds at most."""
        return len(self.tokens) + self.limit

    def take_prompt(self, logits: Tensor) -> None:
        """Note how likely the prompt's tokens were, where that is asked for."""
        if self._prompt and not self._prompt.is_complete:
            self._prompt.take(logits)

    def take(self, token: int, logprob: TokenLogprob | None = None) -> bool:
        """Send `token` on, with `logprob` where that is asked for; false when the text is complete."""
        if self._text.ends_at(token):
            self.finish(FinishReason.STOP)
            return False
        self.written.append(token)
        text, finish = self._text.push(token)
        self._send(text, (token,), finish, (logprob,) if logprob else ())
        return finish is None

    def finish(self, reason: FinishReason) -> None:
        """End the text here, with whatever was held back."""
        self._send(self._text.rest(), (), reason)

    def expire(self) -> None:
        self.finish(FinishReason.DEADLINE)

    def _send(
        self,
        text: str,
        tokens: tuple[int, ...],
        finish: FinishReason | None,
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> None:
        usage = (len(self.tokens), len(self.written)) if finish else (0, 0)
        prompt = self._prompt.hand_over() if self._prompt else ()
        self.deliver(TokenBatch(text, tokens, self.version, finish, *usage, logprobs, prompt))


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
        return range(self._first + len(self._scores), len(self.tokens))

    def take_prompt(self, logits: Tensor) -> None:
        """Score the next tokens; after the last, send."""
        start = len(self._scores)
        following = self._continuation[start : start + len(logits)]
        for row, token in zip(rows_of(logits), following, strict=True):
            logprob, is_greedy = logprob_of(row, token), int(row.argmax()) == token
            self._scores.append(TokenScore(token, self._codec.token_text(token), logprob, is_greedy))
        if len(self._scores) == len(self._continuation):
            self.deliver(ScoreResult(self.version, tuple(self._scores)))

    def expire(self) -> None:
        self.deliver(
            DeadlineExceeded(
                f"request {self._request_id} was not scored before its deadline; allow more time"
            )
        )
