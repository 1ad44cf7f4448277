"""How the next token is chosen from logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.inference import truncation
from expunge.inference.noise import Noise
from expunge.inference.penalties import Penalties
from expunge.inference.request import Sampling

COLDEST = 1e-5  # a lower temperature is greedy, as in vLLM: dividing by it would overflow
BLOCK = 256  # weights that are summed before one is drawn from among them


class Sampler:
    """One answer's choice of tokens: bias, penalties, temperature, min-p, top-k, top-p, in vLLM's order.

    A token is drawn by the share of all weight that lies before it in the order of token ids. So the last
    bits of the logits, which depend on what else is in the batch, move the borders between tokens by about as
    little, and hardly ever change which token a random number falls on.

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
        scores = logits.detach().to("cpu", torch.float32, copy=True).numpy()
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
        number = self._noise.uniform(self._chosen)
        if not self._truncates:
            return draw(weights, number)
        ids = truncation.kept(weights, self._sampling)
        return int(ids[draw(weights[ids], number)])


def draw(weights: NDArray[np.float32], number: float) -> int:
    """The first place up to which more than the share `number`, in [0, 1), of all `weights` lies."""
    blocks = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), BLOCK)), dtype=np.float64)
    target = number * float(blocks[-1])
    block = _first_above(blocks, target)
    within = np.cumsum(weights[block * BLOCK : (block + 1) * BLOCK], dtype=np.float64)
    return block * BLOCK + _first_above(within, target - (float(blocks[block - 1]) if block else 0.0))


def _first_above(sums: NDArray[np.float64], target: float) -> int:
    """The first place at which the rising `sums` exceed `target`; rounding may have put it at the end."""
    return int(np.searchsorted(sums, min(target, np.nextafter(sums[-1], 0)), side="right"))


def _weights(scores: NDArray[np.float32], highest: np.float32, temperature: float) -> NDArray[np.float32]:
    """exp((scores - highest) / temperature), in the memory of `scores`."""
    with np.errstate(over="ignore", under="ignore"):  # scores far below the highest weigh nothing
        scores -= highest
        scores *= np.float32(1 / temperature)
        return np.exp(scores, out=scores)
