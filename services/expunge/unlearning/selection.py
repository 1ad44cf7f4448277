"""Which inverted facts are learnt: MEOW's selection by MEMO (algorithms of arXiv 2409.11844, section 3)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum

from expunge.errors import InvalidRequest


class Metric(StrEnum):
    """Which MEMO comes first."""

    LARGEST = "largest"
    SMALLEST = "smallest"
    RANDOM = "random"


def select(
    candidates: Sequence[str], memo: Sequence[float], metric: Metric, top_k: int, seed: int = 0
) -> list[str]:
    """The `top_k` candidates by MEMO (all where there are fewer); ties keep the given order.

    Args:
        candidates: inverted facts of one fact.
        memo: their MEMO under the version before unlearning, one each.
        metric: largest suits models of strong memory; the paper code's class default is smallest.
        top_k: how many are kept; the paper keeps 3.
        seed: for metric random.

    Raises:
        InvalidRequest: as many scores as candidates are needed, and top_k ≥ 1.
    """
    if len(candidates) != len(memo):
        raise InvalidRequest.of("memo", f"has {len(memo)} scores for {len(candidates)} candidates")
    if top_k < 1:
        raise InvalidRequest.of("top_k", f"is {top_k}; keep at least one inverted fact")
    order = list(range(len(candidates)))
    if metric is Metric.RANDOM:
        random.Random(seed).shuffle(order)
    else:
        order.sort(key=lambda index: memo[index], reverse=metric is Metric.LARGEST)
    return [candidates[index] for index in order[:top_k]]
