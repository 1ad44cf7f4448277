"""TOFU's figures: those published with it, and small cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expunge.auditing.metrics.probability import option_probability, probability
from expunge.auditing.metrics.tofu import (
    UtilityItems,
    forget_quality,
    model_utility,
    smallest_significant_distance,
)
from expunge.auditing.metrics.truth_ratio import PerturbedMean, Side, log_truth_ratio, truth_scores
from expunge.errors import InvalidRequest
from shared_data import shared_data

SETS = ("eval_log.json", "eval_real_author_wo_options.json", "eval_real_world_wo_options.json")
ARITHMETIC, GEOMETRIC = PerturbedMean.ARITHMETIC, PerturbedMean.GEOMETRIC


@pytest.fixture(scope="module")
def golden() -> Path:
    return shared_data("tofu-golden")


def read(folder: Path, name: str, part: str) -> dict[str, np.ndarray]:
    log: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())[part]
    wanted = ("avg_gt_loss", "average_perturb_loss", "avg_paraphrased_loss", "rougeL_recall")
    return {key: np.array([log[key][item] for item in sorted(log[key], key=int)]) for key in wanted}


def ratios(log: dict[str, np.ndarray], mean: PerturbedMean) -> np.ndarray:
    return log_truth_ratio(log["avg_paraphrased_loss"], log["average_perturb_loss"], mean)


@pytest.mark.parametrize(
    ("model", "mean", "expected"),
    [
        ("llama2-7b", ARITHMETIC, 0.5859),
        ("phi", ARITHMETIC, 0.5034),
        ("llama2-7b", GEOMETRIC, 0.6227),
        ("phi", GEOMETRIC, 0.5221),
    ],
)
def test_golden_model_utility(golden: Path, model: str, mean: PerturbedMean, expected: float) -> None:
    sets = {}
    for part in SETS:
        log = read(golden, f"{model}_full", part)
        likely = probability(log["avg_gt_loss"])
        if part != SETS[0]:
            likely = option_probability(log["avg_gt_loss"], log["average_perturb_loss"])
        sets[part] = UtilityItems(likely, log["rougeL_recall"], truth_scores(ratios(log, mean), Side.RETAIN))
    found = model_utility(sets, mean)
    assert found.value == pytest.approx(expected, abs=5e-5)
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < found.value < found.upper < found.lower + 0.1
    assert found.n == 300 + 100 + 117
    assert found.definition == f"model_utility@1(mean={mean.value})"


@pytest.mark.parametrize(("model", "expected"), [("llama2-7b", 1.83e-21), ("phi", 2.19e-16)])
def test_golden_forget_quality(golden: Path, model: str, expected: float) -> None:
    full, retained = (
        ratios(read(golden, f"{model}_{name}", "eval_log_forget.json"), GEOMETRIC)
        for name in ("full", "retain90")
    )
    found = forget_quality(full, retained)
    assert found.p == pytest.approx(expected, rel=5e-3)
    assert found.n == 300
    assert forget_quality(np.exp(full), np.exp(retained)).p == found.p
    assert forget_quality(retained, retained).p == 1.0


@pytest.mark.parametrize(("n", "distance"), [(3, np.inf), (4, 1.0), (10, 0.7), (20, 0.45), (40, 0.325)])
def test_few_facts_show_only_large_distances(n: int, distance: float) -> None:
    assert smallest_significant_distance(n) == pytest.approx(distance)


def test_utility_is_a_harmonic_mean_and_zero_where_a_part_is() -> None:
    half, one = np.array([0.25, 0.75]), np.array([1.0, 1.0])
    assert model_utility({"retain": UtilityItems(half, one, one)}).value == pytest.approx(3 / (2 + 1 + 1))
    nothing = model_utility({"retain": UtilityItems(half, one, one * 0)})
    assert (nothing.value, nothing.lower, nothing.upper) == (0.0, 0.0, 0.0)


def test_an_item_keeps_its_three_figures_together_when_drawn() -> None:
    item = np.array([0.1, 0.9])
    alone = model_utility({"retain": UtilityItems(item, item, item)})
    assert (alone.lower, alone.upper) == (pytest.approx(0.1), pytest.approx(0.9))


def test_sets_of_uneven_length_are_named() -> None:
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(InvalidRequest, match="authors: has 1, 2, 1 items"):
        model_utility({"authors": UtilityItems(one, two, one)})
    with pytest.raises(InvalidRequest, match="sets"):
        model_utility({})
    with pytest.raises(InvalidRequest, match="unlearned: needs"):
        forget_quality([], [1.0])
