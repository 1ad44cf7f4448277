"""What a request would take, as far as that can be told before it runs."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.inference.request import GenerationRequest, ScoreRequest

_CHARS_PER_TOKEN = 4  # of English text; what was really used is settled when the answer ends


@dataclass(frozen=True)
class Demand:
    """What one request would take.

    Attributes:
        prompt_tokens: an estimate, of one answer.
        max_tokens: most tokens generated for one answer.
        answers: how many are asked for.
        deadline: seconds since the epoch, or None.
    """

    prompt_tokens: int
    max_tokens: int
    answers: int = 1
    deadline: float | None = None

    @classmethod
    def of_generation(cls, asked: GenerationRequest, answers: int = 1) -> Demand:
        chars = len(asked.prompt or "") + sum(len(turn.content) for turn in asked.messages)
        prompt_tokens = len(asked.prompt_tokens) or _estimated(chars)
        return cls(prompt_tokens, asked.max_tokens, answers, asked.deadline)

    @classmethod
    def of_score(cls, asked: ScoreRequest) -> Demand:
        return cls(_estimated(len(asked.context) + len(asked.continuation)), 0, 1, asked.deadline)

    @property
    def tokens(self) -> int:
        """All that it may cost: the prompt and the longest answer, once for each answer."""
        return self.answers * (self.prompt_tokens + self.max_tokens)


def _estimated(chars: int) -> int:
    return -(-chars // _CHARS_PER_TOKEN)
