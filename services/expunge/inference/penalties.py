"""What a token's score loses because the text has it already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.inference.request import Sampling

_FIRST_ROOM = 64


class Penalties:
    """Repetition, presence and frequency penalties of one answer, which it counts.

    With s a token's score and c the times that it occurs in the answer, in this order, as vLLM's
    `apply_penalties` has it:

    - repetition r, of every token of prompt or answer: s > 0 becomes s / r, any other s · r (arXiv
      1909.05858, section 4.1; both signs as in transformers' `RepetitionPenaltyLogitsProcessor`);
    - frequency f: s loses f · c; presence p: s loses p where c > 0 (both as the OpenAI API defines them).

    Args:
        prompt: token ids before the answer.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._repetition = np.float32(sampling.repetition_penalty)
        self._presence = np.float32(sampling.presence_penalty)
        self._frequency = np.float32(sampling.frequency_penalty)
        before = list(dict.fromkeys(prompt)) if sampling.repetition_penalty != 1 else []
        self._place = {token: place for place, token in enumerate(before)}
        self._tokens = np.array([*before, *[0] * _FIRST_ROOM], dtype=np.int64)  # longer than there are tokens
        self._counts = np.zeros(len(self._tokens), dtype=np.float32)

    @staticmethod
    def are_asked_for(sampling: Sampling) -> bool:
        """Whether any of them changes anything."""
        neutral = (1.0, 0.0, 0.0)
        return neutral != (
            sampling.repetition_penalty,
            sampling.presence_penalty,
            sampling.frequency_penalty,
        )

    def count(self, token: int) -> None:
        """The answer goes on with `token`."""
        place = self._place.setdefault(token, len(self._place))
        if place == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.zeros_like(self._tokens)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._tokens[place] = token
        self._counts[place] += 1

    def apply(self, scores: NDArray[np.float32]) -> None:
        """Change `scores` [vocabulary] in place."""
        tokens, counts = self._tokens[: len(self._place)], self._counts[: len(self._place)]
        found = scores[tokens]
        if self._repetition != 1:
            found = np.where(found > 0, found / self._repetition, found * self._repetition)
        scores[tokens] = found - self._frequency * counts - self._presence * (counts > 0)
