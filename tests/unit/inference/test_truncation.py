"""The kept tokens are those that the definitions of min-p, top-k and nucleus sampling name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import LogitsProcessorList, MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from expunge.inference.request import Sampling
from expunge.inference.truncation import is_asked_for, kept

PROBABILITIES = np.array([0.05, 0.5, 0.2, 0.1, 0.15], dtype=np.float32)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Sampling(), [0, 1, 2, 3, 4]),
        (Sampling(top_k=2), [1, 2]),
        (Sampling(top_p=0.01), [1]),
        (Sampling(top_p=0.69), [1, 2]),
        (Sampling(top_p=0.71), [1, 2, 4]),
        (Sampling(top_k=4, top_p=0.99), [1, 2, 3, 4]),
        (Sampling(top_k=99, top_p=0.4), [1]),
        (Sampling(min_p=0.25), [1, 2, 4]),
        (Sampling(min_p=0.25, top_k=2), [1, 2]),
        (Sampling(min_p=0.25, top_p=0.8), [1, 2]),  # 0.7 of the 0.85 that min-p left
        (Sampling(top_k=3, top_p=0.8), [1, 2]),
    ],
)
def test_the_right_tokens_are_kept(limits: Sampling, expected: list[int]) -> None:
    assert kept(PROBABILITIES / PROBABILITIES.max(), limits).tolist() == expected


def weights_of(scores: torch.Tensor) -> NDArray[np.float32]:
    return (scores - scores.max()).exp().numpy()


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(2, 3000),
    spread=st.sampled_from([0.0, 0.1, 1.0, 4.0, 20.0]),
    min_p=st.sampled_from([0.0, 1e-7, 0.001, 0.2]),
    top_k=st.sampled_from([0, 1, 7, 50, 2500]),
    top_p=st.sampled_from([1e-9, 0.1, 0.5, 0.9, 0.999, 1.0]),
)
def test_what_is_kept_equals_what_transformers_keeps(
    seed: int, size: int, spread: float, min_p: float, top_k: int, top_p: float
) -> None:
    scores = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * spread
    warpers = LogitsProcessorList([MinPLogitsWarper(min_p)] if min_p else [])
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    expected = warpers(torch.empty(0), scores.double()[None])[0].isfinite().nonzero()[:, 0].tolist()
    found = kept(weights_of(scores), Sampling(min_p=min_p, top_k=top_k, top_p=top_p)).tolist()
    assert found == sorted(set(found))
    if spread:  # of tokens that are all alike, transformers keeps more or other ones
        differing = weights_of(scores)[sorted({*found} ^ {*expected})]
        border = weights_of(scores)[found].min()
        np.testing.assert_allclose(differing, border, rtol=1e-4)  # rounding may move the border by a token
        assert len(differing) <= 1
    else:
        share = round(top_p * min(top_k or size, size), 6)
        assert len(found) == (int(np.ceil(share)) or 1 if top_p < 1 else min(top_k or size, size))


def test_of_tokens_that_weigh_the_same_lower_ids_stay() -> None:
    weights = np.array([0.5, 1, 0.5, 0.5, 1, 0.5], dtype=np.float32)
    assert kept(weights, Sampling(top_k=4)).tolist() == [0, 1, 2, 4]
    assert kept(weights, Sampling(top_p=0.6)).tolist() == [0, 1, 4]


def test_limits_that_leave_nothing_out_are_not_asked_for() -> None:
    assert not is_asked_for(Sampling(temperature=1.0))
    assert all(
        is_asked_for(limits) for limits in (Sampling(top_k=1), Sampling(top_p=0.9), Sampling(min_p=0.1))
    )
