"""What an engine is asked and what it answers: plain records, the same for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class FinishReason(StrEnum):
    STOP = "stop"  # end-of-sequence token or a stop string
    LENGTH = "length"  # max_tokens or the context is used up
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    REFUSED = "refused"  # a guard refused the prompt (gateway only)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; role is system, user or assistant."""

    role: str
    content: str


class Priority(StrEnum):
    """Who goes first where not everybody can."""

    INTERACTIVE = "interactive"
    BATCH = "batch"  # waits behind interactive requests, and gives way to them


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. temperature 0 is greedy.

    Penalties and bias apply in both cases: repetition to tokens of prompt and answer (arXiv 1909.05858),
    presence and frequency to tokens of the answer. `logit_bias` holds (token id, bias) pairs.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    seed: int | None = None
    min_p: float = 0.0  # least probability, as a share of the likeliest token's
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class GenerationRequest:
    """One request, already resolved to a version.

    Exactly one of `prompt` (raw text), `prompt_tokens` (its token ids) and `messages` (put through the chat
    template) is set. Where `continue_final_message`, the last message is the beginning of the answer.
    `deadline` is seconds since the epoch; the row is freed at the first step past it.
    `client` is whose share of the engine it takes. `choice` tells the answers to one prompt apart: with one
    seed, each has random numbers of its own.
    `logprobs` is how many likeliest tokens are told beside each token's own log-probability; None: nothing is
    told. With `prompt_logprobs` the prompt's tokens are told of, too; `max_tokens` may be 0 then.
    """

    request_id: str
    version: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    deadline: float | None = None
    continue_final_message: bool = False
    prompt_tokens: tuple[int, ...] = ()
    client: str = ""
    priority: Priority = Priority.INTERACTIVE
    choice: int = 0
    logprobs: int | None = None
    prompt_logprobs: bool = False


@dataclass(frozen=True)
class TokenLogprob:
    """One token and how likely it was, before temperature, penalties and bias.

    Attributes:
        logprob: natural logarithm; None for a prompt's first token, before which there is nothing.
        likeliest: (token id, text, logprob) of the likeliest tokens at its place, best first.
    """

    token_id: int
    text: str
    logprob: float | None
    likeliest: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class TokenBatch:
    """Some tokens of a running request. The last batch carries `finish` and the usage counts.

    Where they were asked for, `logprobs` has an entry for each of `token_ids`, and the first batch has
    `prompt_logprobs`, an entry for each token of the prompt.
    """

    text: str
    token_ids: tuple[int, ...]
    version: str
    finish: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()


def merge(batches: Sequence[TokenBatch]) -> TokenBatch:
    """One batch with the texts and tokens of all, in order, and the ending of the last."""
    return replace(
        batches[-1],
        text="".join(batch.text for batch in batches),
        token_ids=tuple(token for batch in batches for token in batch.token_ids),
        logprobs=tuple(one for batch in batches for one in batch.logprobs),
        prompt_logprobs=tuple(one for batch in batches for one in batch.prompt_logprobs),
    )


@dataclass(frozen=True)
class ScoreRequest:
    """Log-likelihood of `continuation` after `context` (raw text, no chat template)."""

    request_id: str
    version: str
    context: str
    continuation: str
    deadline: float | None = None
    client: str = ""
    priority: Priority = Priority.INTERACTIVE


@dataclass(frozen=True)
class TokenScore:
    """One token of a scored continuation."""

    token_id: int
    text: str
    logprob: float  # natural log
    is_greedy: bool  # it is the arg-max of its position


@dataclass(frozen=True)
class ScoreResult:
    version: str
    tokens: tuple[TokenScore, ...]

    @property
    def logprob(self) -> float:
        return sum(token.logprob for token in self.tokens)

    @property
    def is_greedy(self) -> bool:
        return all(token.is_greedy for token in self.tokens)
