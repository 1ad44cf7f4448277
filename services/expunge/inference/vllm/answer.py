"""An answer as it comes from vLLM: tokens in, batches of text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from expunge.inference.answer_text import AnswerText
from expunge.inference.codec import TextCodec
from expunge.inference.request import FinishReason, GenerationRequest, TokenBatch, TokenLogprob, TokenScore


class Likelihood(Protocol):
    """What vLLM tells of one token; `rank` counts from 1, the likeliest."""

    logprob: float
    rank: int | None


Position = Mapping[int, Likelihood]  # by token id: the one that stands there, and the likeliest


class Answer:
    """One text being generated, cut where it has to end.

    Args:
        request: what was asked.
        prompt: its token ids.
        limit: tokens that may be generated; 0: only the prompt is told of.
        codec: the model's.
    """

    def __init__(
        self, request: GenerationRequest, prompt: Sequence[int], limit: int, codec: TextCodec
    ) -> None:
        self._version = request.version
        self._likeliest = request.logprobs
        self._prompt = prompt
        self._limit = limit
        self._codec = codec
        self._text = AnswerText(codec, request.stop, limit)

    def push(
        self,
        tokens: Sequence[int],
        positions: Sequence[Position] | None = None,
        prompt_positions: Sequence[Position | None] | None = None,
    ) -> TokenBatch:
        """The batch for the next `tokens`; its `finish` is set once the answer is complete.

        Args:
            positions: of the tokens, where log-probabilities were asked for.
            prompt_positions: of the prompt's tokens, once, where they were asked for.
        """
        told = tuple(
            self._told(token, position)
            for token, position in zip(self._prompt, prompt_positions or (), strict=False)
        )
        taken: list[int] = []
        text, finish = "", FinishReason.LENGTH if self._limit == 0 else None
        for token in tokens if finish is None else ():
            if self._text.ends_at(token):
                text, finish = text + self._text.rest(), FinishReason.STOP
                break
            taken.append(token)
            more, finish = self._text.push(token)
            text += more
            if finish:
                break
        logprobs = tuple(
            self._told(token, position) for token, position in zip(taken, positions or (), strict=False)
        )
        return self._batch(text, tuple(taken), finish, logprobs, told)

    def end(self, reason: FinishReason) -> TokenBatch:
        """The last batch of an answer that ends here, with whatever was held back."""
        return self._batch(self._text.rest(), (), reason)

    def _batch(
        self,
        text: str,
        tokens: tuple[int, ...],
        finish: FinishReason | None,
        logprobs: tuple[TokenLogprob, ...] = (),
        prompt_logprobs: tuple[TokenLogprob, ...] = (),
    ) -> TokenBatch:
        usage = (len(self._prompt), self._text.tokens) if finish else (0, 0)
        return TokenBatch(text, tokens, self._version, finish, *usage, logprobs, prompt_logprobs)

    def _told(self, token: int, position: Position | None) -> TokenLogprob:
        if position is None:
            return TokenLogprob(token, self._codec.token_text(token), None)
        best = sorted(position.items(), key=lambda item: -item[1].logprob)[: self._likeliest or 0]
        likeliest = tuple((other, self._codec.token_text(other), found.logprob) for other, found in best)
        return TokenLogprob(token, self._codec.token_text(token), position[token].logprob, likeliest)


def scores(tokens: Sequence[int], positions: Sequence[Position], codec: TextCodec) -> tuple[TokenScore, ...]:
    """The scores of `tokens`, which stand at `positions` of a prompt."""

    def score(token: int, here: Likelihood) -> TokenScore:
        return TokenScore(token, codec.token_text(token), here.logprob, here.rank == 1)

    return tuple(score(token, position[token]) for token, position in zip(tokens, positions, strict=True))
