"""Extraction strength and exact memorisation, from the arg-max hits of a teacher-forced answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def extraction_strength(hits: Sequence[bool] | NDArray[np.bool_]) -> float:
    """ES = 1 − k/L, k the length of the shortest prefix after which every arg-max is right.

    k = L, hence ES = 0, where even the last token is wrong. Public code floors ES at 1/L instead, which
    inflates short answers.

    Args:
        hits: [L] whether the arg-max at each answer position is the answer's token.
    """
    right = np.asarray(hits, dtype=np.bool_)
    if not right.size:
        return 0.0
    wrong = np.flatnonzero(~right)
    shortest = int(wrong[-1]) + 1 if wrong.size else 0
    return (right.size - shortest) / right.size


def exact_memorisation(hits: Sequence[bool] | NDArray[np.bool_]) -> float:
    """EM: share of answer positions [L] whose teacher-forced arg-max is the answer's token."""
    right = np.asarray(hits, dtype=np.bool_)
    return float(right.mean()) if right.size else 0.0
