"""Every teacher-forced figure of a scored set; no further forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from expunge.auditing.metrics.definitions import Definition, definition
from expunge.auditing.metrics.estimate import Estimate, Floats
from expunge.auditing.metrics.membership import (
    DEFAULT_K,
    loss_score,
    min_k_plus_plus_score,
    min_k_score,
    zlib_score,
)
from expunge.auditing.metrics.scored import AnswerScores, SetScores
from expunge.auditing.metrics.truth_ratio import PerturbedMean, Side, log_truth_ratio, truth_ratio


def forced_figures(
    scored: Sequence[SetScores],
    side: Side,
    *,
    mean: PerturbedMean = PerturbedMean.GEOMETRIC,
    k: float = DEFAULT_K,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Probability, truth ratio, EM, ES, LOSS, Zlib, Min-K% and, where moments were asked for, Min-K%++.

    By metric, as `definitions` names them. Paraphrase probability is over the sets that have a paraphrase,
    the truth ratio over those with wrong answers; without any such set the figure is left out.

    Args:
        side: whether the facts were to be forgotten or kept.
        mean: of the wrong answers' probabilities.
        k: of Min-K% and Min-K%++.
        seed: of the bootstrap.

    Raises:
        InvalidRequest: no sets, or k outside (0, 1].
    """
    answers = [one.answer for one in scored]
    figures = [
        Estimate.of_share([one.probability for one in answers], definition("probability")),
        Estimate.of_share([one.es for one in answers], definition("extraction_strength")),
        Estimate.of_share([one.em for one in answers], definition("exact_memorisation")),
    ]
    paraphrased = [one.paraphrase.probability for one in scored if one.paraphrase]
    if paraphrased:
        figures.append(Estimate.of_share(paraphrased, definition("paraphrase_probability")))
    ratios = log_truth_ratios(scored, mean)
    if ratios.size:
        figures.append(truth_ratio(ratios, side, mean))
    for what, score in membership_scores(k).items():
        if what.name != "min_k_plus_plus" or all(one.means is not None for one in answers):
            figures.append(Estimate.of_mean([score(one) for one in answers], what, seed))
    return {figure.definition.partition("@")[0]: figure for figure in figures}


def log_truth_ratios(scored: Sequence[SetScores], mean: PerturbedMean) -> Floats:
    """log R of every set that has wrong answers."""
    told = [one for one in scored if one.perturbed]
    width = max((len(one.perturbed) for one in told), default=0)
    losses = np.full((len(told), width), np.nan)
    for row, one in zip(losses, told, strict=True):
        row[: len(one.perturbed)] = [wrong.loss for wrong in one.perturbed]
    return log_truth_ratio([one.right.loss for one in told], losses, mean)


def membership_scores(k: float = DEFAULT_K) -> dict[Definition, Callable[[AnswerScores], float]]:
    """Every score by which an answer may be told to be training data, higher for what looks like it."""
    return {
        definition("loss"): lambda one: loss_score(one.logprobs),
        definition("zlib"): lambda one: zlib_score(one.logprobs, one.text),
        definition("min_k", k=k): lambda one: min_k_score(one.logprobs, k),
        definition("min_k_plus_plus", k=k): lambda one: _min_k_plus_plus(one, k),
    }


def _min_k_plus_plus(one: AnswerScores, k: float) -> float:
    if one.means is None or one.deviations is None:
        raise ValueError("scored without moments; ask score_sets for them")
    return min_k_plus_plus_score(one.logprobs, one.means, one.deviations, k)
