"""How the next token is chosen from logits."""

from __future__ import annotations

import torch
from torch import Tensor

from expunge.inference.request import Sampling

NUCLEUS_FIRST_LOOK = 1024


class Sampler:
    """One request's choice of tokens, with its own random numbers."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed % 2**63)

    def choose(self, logits: Tensor) -> int:
        """Draw a token from `logits` [vocabulary], finite, at a temperature above 0."""
        kept, ids = limit(
            logits.float() / self._sampling.temperature, self._sampling.top_k, self._sampling.top_p
        )
        drawn = torch.multinomial(kept.softmax(-1), 1, generator=self._generator)
        return int(ids[drawn])


def limit(scores: Tensor, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """Keep the `top_k` highest `scores` [vocabulary] (0: all), then the nucleus of probability `top_p`.

    The nucleus is the smallest set of tokens whose probability reaches `top_p` (arXiv 1904.09751).

    Returns:
        the kept scores and their token ids; at least one.
    """
    ids = torch.arange(len(scores))
    if 0 < top_k < len(scores):
        scores, ids = scores.topk(top_k)
    if top_p >= 1.0:
        return scores, ids
    total = scores.logsumexp(-1)
    # Sorting a whole vocabulary costs milliseconds a row; the nucleus is nearly always within the first few.
    for look in (min(NUCLEUS_FIRST_LOOK, len(scores)), len(scores)):
        best, order = scores.topk(look)
        reached = (best - total).exp().cumsum(-1)
        if look == len(scores) or reached[-1] >= top_p:
            break
    count = min(int((reached < top_p).sum()) + 1, look)
    return best[:count], ids[order[:count]]
