"""What a request would take, as far as that can be told before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.inference.request import GenerationRequest, ScoreRequest

_CHARS_PER_TOKEN = 4  # of English text; what was really used is settled when the answer ends


@dataclass(frozen=True)
class Demand:
    """What one request would take.

    Attributes:
        prompt_tokens: an estimate, of one answer; the mean where their prompts differ.
        max_tokens: most tokens generated for one answer.
        answers: how many are asked for.
        deadline: seconds since the epoch, or None.
    """

    prompt_tokens: int
    max_tokens: int
    answers: int = 1
    deadline: float | None = None

    @classmethod
    def of_generations(cls, asked: Sequence[GenerationRequest]) -> Demand:
        """What one call takes, of which each of `asked` is one answer."""
        return cls(
            -(-sum(map(_prompt_tokens, asked)) // len(asked)),
            max(request.max_tokens for request in asked),
            len(asked),
            asked[0].deadline,
        )

    @classmethod
    def of_score(cls, asked: ScoreRequest) -> Demand:
        return cls(_estimated(len(asked.context) + len(asked.continuation)), 0, 1, asked.deadline)

    @property
    def tokens(self) -> int:
        """All that it may cost: the prompt and the longest answer, once for each answer."""
        return self.answers * (self.prompt_tokens + self.max_tokens)


def _prompt_tokens(asked: GenerationRequest) -> int:
    chars = len(asked.prompt or "") + sum(len(turn.content) for turn in asked.messages)
    return len(asked.prompt_tokens) or _estimated(chars)


def _estimated(chars: int) -> int:
    return -(-chars // _CHARS_PER_TOKEN)
