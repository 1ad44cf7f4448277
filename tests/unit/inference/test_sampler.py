"""Tokens are drawn from the distribution that the options define."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from expunge.inference.request import Sampling
from expunge.inference.sampler import TAIL, Sampler

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


@pytest.mark.parametrize("limits", [{}, {"top_p": 0.9}, {"top_k": 200}, {"min_p": 1e-4}])
def test_small_errors_of_the_logits_do_not_change_the_text(limits: dict[str, Any]) -> None:
    """The vocabulary is large and its tail long, and the errors are those of fp32 in another batch."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(400, 20_000, generator=generator) * 3
    nearby = logits + torch.randn(400, 20_000, generator=generator) * 3e-5
    sampling = Sampling(1.0, seed=3, **limits)
    one, other = Sampler(sampling), Sampler(sampling)
    assert [one.choose(row) for row in logits] == [other.choose(row) for row in nearby]


def test_the_tail_is_drawn_by_its_share() -> None:
    scores = torch.full((100_000,), -12.0)  # each is unlikely, together they are not
    scores[50_000] = 0.0
    assert math.exp(-12) < TAIL
    sampler = Sampler(Sampling(1.0, seed=8))
    drawn = [sampler.choose(scores) for _ in range(1500)]
    unlikely = [token for token in drawn if token != 50_000]
    share = 99_999 * math.exp(-12) / (1 + 99_999 * math.exp(-12))
    assert len(unlikely) / 1500 == pytest.approx(share, abs=0.04)
    assert sum(token < 50_000 for token in unlikely) / len(unlikely) == pytest.approx(0.5, abs=0.07)


def test_choices_of_one_seed_differ() -> None:
    flat = torch.zeros(10_000)
    assert len({Sampler(Sampling(1.0, seed=5), choice=choice).choose(flat) for choice in range(8)}) == 8


def test_without_a_seed_draws_differ() -> None:
    flat = torch.zeros(10_000)
    assert len({Sampler(Sampling(1.0)).choose(flat) for _ in range(8)}) > 1
