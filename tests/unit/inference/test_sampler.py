"""The kept tokens are those that the definitions of top-k and nucleus sampling name."""

from __future__ import annotations

import pytest
import torch

from expunge.inference import sampler
from expunge.inference.request import Sampling
from expunge.inference.sampler import Sampler, limit

SCORES = torch.tensor([0.05, 0.5, 0.2, 0.1, 0.15]).log()


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, {0, 1, 2, 3, 4}),
        (2, 1.0, {1, 2}),
        (0, 0.01, {1}),
        (0, 0.69, {1, 2}),
        (0, 0.71, {1, 2, 4}),
        (4, 0.99, {1, 2, 3, 4}),
        (99, 0.4, {1}),
    ],
)
def test_limit_keeps_the_right_tokens(top_k: int, top_p: float, kept: set[int]) -> None:
    scores, ids = limit(SCORES, top_k, top_p)
    assert set(ids.tolist()) == kept
    torch.testing.assert_close(scores, SCORES[ids])


def test_a_wide_nucleus_is_found_past_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(500, generator=torch.Generator().manual_seed(1))
    whole = set(limit(scores, 0, 0.9)[1].tolist())
    monkeypatch.setattr(sampler, "NUCLEUS_FIRST_LOOK", 8)
    assert set(limit(scores, 0, 0.9)[1].tolist()) == whole


def test_draws_follow_the_distribution() -> None:
    draw = Sampler(Sampling(temperature=1.0, seed=5))
    counts = torch.bincount(torch.tensor([draw.choose(SCORES) for _ in range(4000)]), minlength=5)
    torch.testing.assert_close(counts / 4000, SCORES.exp(), atol=0.03, rtol=0)


def test_without_a_seed_draws_differ() -> None:
    flat = torch.zeros(10_000)
    drawn = {tuple(Sampler(Sampling(temperature=1.0)).choose(flat) for _ in range(1)) for _ in range(8)}
    assert len(drawn) > 1
