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


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    seed: int | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """One request, already resolved to a version.

    Exactly one of `prompt` (raw text) and `messages` (put through the chat template) is set. Where
    `continue_final_message`, the last message is the beginning of the answer.
    `deadline` is seconds since the epoch; the row is freed at the first step past it.
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


@dataclass(frozen=True)
class TokenBatch:
    """Some tokens of a running request. The last batch carries `finish` and the usage counts."""

    text: str
    token_ids: tuple[int, ...]
    version: str
    finish: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


def merge(batches: Sequence[TokenBatch]) -> TokenBatch:
    """One batch with the texts and tokens of all, in order, and the ending of the last."""
    return replace(
        batches[-1],
        text="".join(batch.text for batch in batches),
        token_ids=tuple(token for batch in batches for token in batch.token_ids),
    )


@dataclass(frozen=True)
class ScoreRequest:
    """Log-likelihood of `continuation` after `context` (raw text, no chat template)."""

    request_id: str
    version: str
    context: str
    continuation: str
    deadline: float | None = None


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
