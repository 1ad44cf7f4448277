"""Many figures as one: open-unlearning's aggregate, and TRACE's change of abilities over requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from expunge.auditing.metrics.estimate import checked
from expunge.errors import InvalidRequest


def harmonic_mean(values: ArrayLike) -> float:
    """n / Σ 1/v of figures in [0, 1]; 0 where any is 0.

    Raises:
        InvalidRequest: no values, or one outside [0, 1].
    """
    items = checked(values, "values")
    outside = np.flatnonzero((items < 0) | (items > 1))
    if outside.size:
        raise InvalidRequest.of(f"values[{outside[0]}]", f"must be in [0, 1], is {items[outside[0]]}")
    return float(stats.hmean(items))


def memorisation_score(es: float, em: float, paraphrase_probability: float, truth_ratio: float) -> float:
    """HM(1 − ES, 1 − EM, 1 − ParaProb, 1 − TR) (open-unlearning, arXiv 2506.12618).

    A perfect score is not the aim: the model that never knew scores .31.
    """
    return harmonic_mean([1 - es, 1 - em, 1 - paraphrase_probability, 1 - truth_ratio])


def privacy_score(aucs: Mapping[str, float], retained_aucs: Mapping[str, float]) -> float:
    """HM over attacks of 1 − |A − A_ret| / max(A_ret, 1 − A_ret) (open-unlearning, arXiv 2506.12618).

    Two-sided: 1 where every attack tells as much of the version as of one that never saw the forget set.

    Args:
        aucs, retained_aucs: AUC of each attack (LOSS, Zlib, Min-K%, Min-K%++) by name.

    Raises:
        InvalidRequest: not the same attacks in both, or none.
    """
    if aucs.keys() != retained_aucs.keys():
        raise InvalidRequest.of("retained_aucs", f"must hold the same attacks: {', '.join(sorted(aucs))}")
    scaled = []
    for attack, auc in aucs.items():
        right = retained_aucs[attack]
        scaled.append(1 - abs(auc - right) / max(right, 1 - right))
    return harmonic_mean(scaled)


def aggregate(memorisation: float, privacy: float, utility: float) -> float:
    """HM(memorisation, privacy, utility) (open-unlearning, arXiv 2506.12618)."""
    return harmonic_mean([memorisation, privacy, utility])


def ability_delta(before: Sequence[float], after: Sequence[float]) -> float:
    """Mean over an ability's tasks of score after request t minus score before (TRACE, arXiv 2310.06762).

    TRACE's abilities are general ability, instruction following and safety; below 0 is a loss.

    Raises:
        InvalidRequest: no tasks, or not as many after as before.
    """
    if len(before) != len(after):
        raise InvalidRequest.of("after", f"has {len(after)} tasks, before has {len(before)}")
    return float((checked(after, "after") - checked(before, "before")).mean())
