"""Membership: can one tell from its score whether a text was trained on.

Every score is higher for what looks like training data. What follows from the scores of members and
non-members is two-sided: an AUC of .5 is right, and 0 (over-unlearned) tells as much as 1.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn import metrics

from expunge.auditing.metrics.definitions import Definition, definition
from expunge.auditing.metrics.estimate import Estimate, Floats, bootstrap, checked
from expunge.errors import InvalidRequest

DEFAULT_K = 0.4
_LEAST_VARIANCE = 1e-6  # of log-probabilities; open-unlearning's bound for distributions with a sure winner


def loss_score(logprobs: ArrayLike) -> float:
    """LOSS: mean log-probability of an answer's tokens [L], that is −CE (Yeom et al., arXiv 1709.01604)."""
    return float(_tokens(logprobs).mean())


def zlib_score(logprobs: ArrayLike, text: str) -> float:
    """Zlib: mean log-probability [L] over the bytes that zlib needs (Carlini et al., arXiv 2012.07805).

    With the mean of the losses, as open-unlearning has it, not with their sum.
    """
    return loss_score(logprobs) / len(zlib.compress(text.encode("utf-8")))


def min_k_score(logprobs: ArrayLike, k: float = DEFAULT_K) -> float:
    """Min-K%: mean of the max(1, ⌊kL⌋) lowest of the log-probabilities [L] (arXiv 2310.16789).

    k is .4 in open-unlearning and MUSE, .2 elsewhere.

    Raises:
        InvalidRequest: k outside (0, 1].
    """
    return _lowest(_tokens(logprobs), k)


def min_k_plus_plus_score(
    logprobs: ArrayLike, means: ArrayLike, deviations: ArrayLike, k: float = DEFAULT_K
) -> float:
    """Min-K%++: Min-K% of z_t = (log p(x_t) − μ_t)/σ_t (arXiv 2404.02936).

    μ_t and σ_t are the mean and standard deviation of log p over the vocabulary under the model's own
    distribution at t; all arguments are [L].

    Raises:
        InvalidRequest: k outside (0, 1].
    """
    spread = np.sqrt(np.maximum(np.square(np.asarray(deviations, dtype=np.float64)), _LEAST_VARIANCE))
    return _lowest((_tokens(logprobs) - np.asarray(means, dtype=np.float64)) / spread, k)


def recall_scores(conditional: ArrayLike, plain: ArrayLike) -> Floats:
    """ReCaLL: LL(x | prefix) / LL(x), mean log-likelihoods [n] (arXiv 2406.15968).

    `conditional` are the LOSS scores of the same texts after a prefix of non-members, which makes members,
    whose likelihood was high, lose more.

    Raises:
        InvalidRequest: a text that is certain without the prefix, so that no ratio exists.
    """
    given = np.asarray(conditional, dtype=np.float64)
    without = np.asarray(plain, dtype=np.float64)
    certain = np.flatnonzero(without == 0)
    if certain.size:
        raise InvalidRequest.of(f"plain[{certain[0]}]", "is certain without the prefix; leave it out")
    return np.asarray(given / without)


def membership_auc(members: ArrayLike, others: ArrayLike, score: Definition, seed: int = 0) -> Estimate:
    """AUC: how often a member scores higher than a non-member, ties half; two-sided.

    Args:
        members, others: scores [m] and [n].
        score: what was scored.

    Raises:
        InvalidRequest: no members or no others.
    """
    known, unknown = checked(members, "members"), checked(others, "others")
    truth = np.repeat([True, False], [known.size, unknown.size])
    value = float(metrics.roc_auc_score(truth, np.concatenate([known, unknown])))
    lower, upper = bootstrap(_auc, (known, unknown), seed)
    what = definition("membership_auc", score=score.id)
    return Estimate(value, lower, upper, known.size + unknown.size, what.id)


def membership_tpr(
    members: ArrayLike, others: ArrayLike, score: Definition, fpr: float = 0.05, seed: int = 0
) -> Estimate:
    """Largest share of members found while at most `fpr` of the others are taken for members.

    After Carlini et al. (arXiv 2112.03570): an attack counts where it is sure. With fewer than 1/fpr others
    it is the share of members above all of them. Arguments as for `membership_auc`.

    Raises:
        InvalidRequest: no members, no others, or `fpr` outside [0, 1).
    """
    if not 0 <= fpr < 1:
        raise InvalidRequest.of("fpr", f"must be in [0, 1), is {fpr}")
    known, unknown = checked(members, "members"), checked(others, "others")
    truth = np.repeat([True, False], [known.size, unknown.size])
    wrong, right, _ = metrics.roc_curve(truth, np.concatenate([known, unknown]), drop_intermediate=False)
    value = float(right[wrong <= fpr + 1e-12].max())

    def at_fpr(inside: Floats, outside: Floats, axis: int) -> Floats:
        return _tpr(inside, outside, fpr, axis)

    lower, upper = bootstrap(at_fpr, (known, unknown), seed)
    what = definition("membership_tpr", score=score.id, fpr=fpr)
    return Estimate(value, lower, upper, known.size + unknown.size, what.id)


def _auc(members: Floats, others: Floats, axis: int) -> Floats:
    """(Σ ranks of members − m(m+1)/2) / mn along the last axis, for many drawings at once."""
    both = np.concatenate([members, others], axis=axis)
    m, n = members.shape[axis], others.shape[axis]
    ranks = stats.rankdata(both, axis=axis).take(range(m), axis=axis)
    return np.asarray((ranks.sum(axis=axis) - m * (m + 1) / 2) / (m * n))


def _tpr(members: Floats, others: Floats, fpr: float, axis: int) -> Floats:
    """Share of members above the score that at most `fpr` of the others exceed."""
    allowed = int(fpr * others.shape[axis] + 1e-9)
    bound = np.sort(others, axis=axis).take([others.shape[axis] - 1 - allowed], axis=axis)
    return np.asarray((members > bound).mean(axis=axis))


def _lowest(values: Floats, k: float) -> float:
    if not 0 < k <= 1:
        raise InvalidRequest.of("k", f"must be in (0, 1], is {k}")
    return float(np.sort(values)[: max(1, int(k * values.size))].mean())


def _tokens(logprobs: ArrayLike) -> Floats:
    return checked(logprobs, "logprobs")
