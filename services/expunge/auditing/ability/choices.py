"""Multiple choice by log-likelihood: does a version find the right answer likelier than the wrong ones?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

from expunge.auditing.ability.tasks import ChoiceItem
from expunge.auditing.text_model import TextModel


def right_choices(model: TextModel, version: str, items: Sequence[ChoiceItem]) -> list[bool]:
    """For each item whether its right answer is likelier than every other one; a tie is not.

    log P(answer | question) = Σ log p over the answer's tokens, not normalised by its length (`acc` of
    lm-evaluation-harness); tokens that all answers to a question begin with say nothing and are not scored.
    All answers to all questions are teacher-forced in one pass.

    Raises:
        VersionNotStaged: the model does not hold `version`.
        InvalidRequest: an item is longer than the context.
    """
    pairs = []
    for item in items:
        question = model.chat_ids(item.question)
        answers = [model.encode(text, special=False) for text in item.texts]
        shared = _shared(answers)
        pairs += [([*question, *answer[:shared]], answer[shared:]) for answer in answers]
    forced = iter(model.teacher_forced(pairs, version))
    return [
        _first_is_likeliest([math.fsum(next(forced).logprobs.tolist()) for _ in item.choices])
        for item in items
    ]


def _shared(answers: Sequence[Sequence[int]]) -> int:
    """How many tokens all answers begin with."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*answers, strict=False)))


def _first_is_likeliest(scores: Sequence[float]) -> bool:
    return all(scores[0] > other for other in scores[1:])
