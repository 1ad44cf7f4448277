"""How the next token is chosen from logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from expunge.inference import truncation
from expunge.inference.noise import Noise
from expunge.inference.penalties import Penalties
from expunge.inference.request import Sampling

COLDEST = 1e-5  # a lower temperature is greedy, as in vLLM: dividing by it would overflow
TAIL = 1e-5  # tokens that weigh less, as shares of the likeliest one's probability, rarely win
_REST = np.array([-1])  # stands for all of them


class Sampler:
    """One answer's choice of tokens: bias, penalties, temperature, min-p, top-k, top-p, in vLLM's order.

    A token is drawn by a race (Gumbel's trick): each has a random number of its own, and the lowest ratio of
    number and probability wins. So the last bits of the logits, which depend on what else is in the batch,
    change the token only where two come in at almost the same time. A random number that is looked up in
    the sums of all probabilities would fall on another token far more often: in the long tail of unlikely
    tokens, all sums move by more than the distance between two of them.

    Args:
        prompt: token ids before the answer.
        choice: which of several answers with one seed.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = (), choice: int = 0) -> None:
        self._sampling = sampling
        self._noise = Noise(sampling.seed, choice)
        self._bias_ids = np.array([token for token, _ in sampling.logit_bias], dtype=np.int64)
        self._biases = np.array([bias for _, bias in sampling.logit_bias], dtype=np.float32)
        self._penalties = Penalties(sampling, prompt) if Penalties.are_asked_for(sampling) else None
        self._truncates = truncation.is_asked_for(sampling)
        self._chosen = 0

    @staticmethod
    def is_needed(sampling: Sampling) -> bool:
        """Whether the choice is anything but the likeliest token."""
        return bool(
            sampling.temperature >= COLDEST or sampling.logit_bias or Penalties.are_asked_for(sampling)
        )

    def choose(self, logits: Tensor) -> int:
        """The next token, from `logits` [vocabulary], of which the highest is finite.

        The n-th call is for the n-th token of the answer.
        """
        scores = logits.detach().float().cpu().numpy()
        if self._penalties or len(self._biases):
            scores = scores.copy()
            scores[self._bias_ids] += self._biases
        if self._penalties:
            self._penalties.apply(scores)
        token = int(scores.argmax())
        if self._sampling.temperature >= COLDEST:
            token = self._draw(_weights(scores, scores[token], self._sampling.temperature))
        if self._penalties:
            self._penalties.count(token)
        self._chosen += 1
        return token

    def _draw(self, weights: NDArray[np.float32]) -> int:
        if self._truncates:
            ids = truncation.kept(weights, self._sampling)
            return self._first(ids, weights[ids])[0]
        ids = np.flatnonzero(weights >= TAIL)
        token, time = self._first(ids, weights[ids])
        # The rest run as one, and only if that one is first among themselves: when the first of several
        # arrives is independent of which of them it is.
        weights[ids] = 0.0
        together = float(weights.sum())
        if together > 0 and self._first(_REST, np.array([together]))[1] < time:
            ids = np.flatnonzero(weights)
            token, _ = self._first(ids, weights[ids])
        return token

    def _first(self, ids: NDArray[np.int64], weights: NDArray[np.floating[Any]]) -> tuple[int, float]:
        """Who of `ids`, each as likely as its share of `weights`, wins the race, and its time."""
        with np.errstate(divide="ignore"):  # what weighs nothing never arrives
            times = self._noise.exponentials(self._chosen, ids) / weights
        winner = times.argmin()
        return int(ids[winner]), float(times[winner])


def likeliest(logits: Tensor) -> tuple[list[int], list[bool]]:
    """The arg-max of each row of `logits` [rows, vocabulary], and whether it is finite; NaN is the highest.

    numpy's arg-max takes a seventh of the time of torch's.
    """
    scores = logits.detach().float().cpu().numpy()
    ids = scores.argmax(-1)
    return ids.tolist(), np.isfinite(scores[np.arange(len(ids)), ids]).tolist()


def _weights(scores: NDArray[np.float32], highest: np.float32, temperature: float) -> NDArray[np.float32]:
    """exp((scores - highest) / temperature)."""
    with np.errstate(over="ignore", under="ignore"):  # scores far below the highest weigh nothing
        weights: NDArray[np.float32] = scores - highest
        weights *= np.float32(1 / temperature)
        np.exp(weights, out=weights)
    return weights
