"""Tokens are drawn from the distribution that the options define."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from expunge.inference.request import Sampling
from expunge.inference.sampler import Sampler, draw

SCORES = torch.tensor([0.05, 0.5, 0.2, 0.1, 0.15]).log()


def shares(sampling: Sampling, scores: torch.Tensor = SCORES, draws: int = 4000) -> torch.Tensor:
    sampler = Sampler(sampling)
    return (
        torch.bincount(torch.tensor([sampler.choose(scores) for _ in range(draws)]), minlength=len(scores))
        / draws
    )


def test_draws_follow_the_distribution() -> None:
    torch.testing.assert_close(shares(Sampling(1.0, seed=5)), SCORES.exp(), atol=0.03, rtol=0)


def test_temperature_sharpens_and_flattens() -> None:
    for temperature in (0.5, 2.0):
        expected = (SCORES / temperature).softmax(-1)
        torch.testing.assert_close(shares(Sampling(temperature, seed=5)), expected, atol=0.03, rtol=0)


def test_what_is_left_is_drawn_by_its_own_share() -> None:
    found = shares(Sampling(1.0, top_k=4, top_p=0.7, seed=5))
    torch.testing.assert_close(found, torch.tensor([0, 5 / 7, 2 / 7, 0, 0]), atol=0.03, rtol=0)


def test_bias_moves_the_distribution() -> None:
    sampling = Sampling(1.0, seed=5, logit_bias=((0, 2.0), (1, -100.0)))
    expected = (SCORES + torch.tensor([2.0, -100, 0, 0, 0])).softmax(-1)
    torch.testing.assert_close(shares(sampling), expected, atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"logit_bias": ((3, 10.0),)}, [3, 3, 3, 3]),
        ({"presence_penalty": 1.0}, [1, 2, 1, 1]),
        ({"frequency_penalty": 1.0}, [1, 2, 1, 4]),
        ({"repetition_penalty": 3.0}, [4, 1, 1, 1]),
        ({"repetition_penalty": 10.0, "logit_bias": ((0, 3.0),)}, [0, 0, 0, 0]),  # the bias comes first
        ({"top_k": 1, "top_p": 0.1, "min_p": 0.9, "seed": 4}, [1, 1, 1, 1]),
    ],
)
def test_bias_and_penalties_change_greedy_choices(options: dict[str, Any], expected: list[int]) -> None:
    sampler = Sampler(Sampling(**options), prompt=(1, 2))
    assert [sampler.choose(SCORES) for _ in range(4)] == expected


@pytest.mark.parametrize(
    ("sampling", "is_needed"),
    [
        (Sampling(top_p=0.5, top_k=3, min_p=0.1, seed=1), False),
        (Sampling(temperature=1e-9), False),
        (Sampling(temperature=0.1), True),
        (Sampling(presence_penalty=0.1), True),
        (Sampling(logit_bias=((1, 1.0),)), True),
    ],
)
def test_plain_greedy_choices_need_no_sampler(sampling: Sampling, is_needed: bool) -> None:
    assert Sampler.is_needed(sampling) is is_needed


def test_logits_are_left_as_they_are() -> None:
    logits = SCORES.clone()
    Sampler(Sampling(1.0, repetition_penalty=2.0, logit_bias=((1, 3.0),)), prompt=(1,)).choose(logits)
    torch.testing.assert_close(logits, SCORES, rtol=0, atol=0)


@pytest.mark.parametrize("lowest", [-torch.inf, torch.finfo(torch.float32).min])
def test_tokens_ruled_out_by_the_model_are_never_drawn(lowest: float) -> None:
    scores = torch.full((600,), lowest)
    scores[[3, 599]] = torch.tensor([-2.0, 1e4])
    assert Sampler(Sampling(1.0, seed=1)).choose(scores) == 599
    assert set(shares(Sampling(100.0, seed=1), scores[:300], 50).nonzero()[:, 0].tolist()) == {3}


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**16), st.sampled_from([Sampling(), Sampling(top_p=0.9)]))
def test_last_bits_of_the_logits_do_not_change_the_text(seed: int, noise: int, limits: Sampling) -> None:
    logits = torch.randn(20, 1000, generator=torch.Generator().manual_seed(noise)) * 3
    nearby = torch.nextafter(
        logits, torch.randn(20, 1000, generator=torch.Generator().manual_seed(noise + 1))
    )
    sampling = Sampling(0.9, limits.top_p, seed=seed)
    one, other = Sampler(sampling), Sampler(sampling)
    assert [one.choose(row) for row in logits] == [other.choose(row) for row in nearby]


def test_choices_of_one_seed_differ() -> None:
    flat = torch.zeros(10_000)
    assert len({Sampler(Sampling(1.0, seed=5), choice=choice).choose(flat) for choice in range(8)}) == 8


def test_without_a_seed_draws_differ() -> None:
    flat = torch.zeros(10_000)
    assert len({Sampler(Sampling(1.0)).choose(flat) for _ in range(8)}) > 1


@given(
    st.lists(st.sampled_from([0.0, 1e-30, 1e-3, 0.5, 1.0]), min_size=1, max_size=900),
    st.floats(0, 1 - 2**-53),
)
def test_a_draw_lands_where_the_weight_is(weights: list[float], number: float) -> None:
    weights[len(weights) // 2] = 1.0
    array = np.array(weights, dtype=np.float32)
    place = draw(array, number)
    assert array[place] > 0
    total = array.sum(dtype=np.float64)
    before = array[:place].sum(dtype=np.float64) / total
    assert before - 1e-4 <= number <= before + array[place] / total + 1e-4


def test_the_ends_of_the_range_are_the_first_and_last_token() -> None:
    weights = np.ones(1000, dtype=np.float32)
    assert draw(weights, 0.0) == 0
    assert draw(weights, 1 - 2**-53) == 999
