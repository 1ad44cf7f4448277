"""Sums are exact; recompression is the best of its rank."""

from __future__ import annotations

import pytest
import torch

from expunge.errors import InvalidAdapter
from expunge.lora.adapter import Adapter
from expunge.lora.compose import concat, level, recompress
from expunge.lora.shape import ModelShape
from expunge.lora.validation import check_fit
from lora_cases import random_adapter


def delta(adapter: Adapter, path: str) -> torch.Tensor:
    return adapter.delta(path) if path in adapter.pairs else torch.tensor(0.0)


def test_sum_adds_what_both_add_and_ranks_add_up(tiny_shape: ModelShape) -> None:
    first = random_adapter(tiny_shape, seed=1, alpha=3.0, targets=("q_proj", "v_proj"))
    second = random_adapter(tiny_shape, seed=2, rank=2, rslora=True, targets=("v_proj", "down_proj"))
    total = concat(first, second)
    check_fit(total, tiny_shape, max_rank=6)
    for path in tiny_shape.modules:
        expected = delta(first, path) + delta(second, path)
        assert torch.allclose(delta(total, path), expected, atol=1e-6), path
    ranks = {path.rpartition(".")[2]: pair.rank for path, pair in total.pairs.items()}
    assert ranks == {"q_proj": 4, "v_proj": 6, "down_proj": 2}
    assert {total.config.scale_of(path) for path in total.pairs} == {1.0}
    assert total.config.target_modules == ("down_proj", "q_proj", "v_proj")


def test_sums_of_sums_add_up(tiny_shape: ModelShape) -> None:
    parts = [random_adapter(tiny_shape, seed=seed) for seed in range(4)]
    total = concat(concat(concat(parts[0], parts[1]), parts[2]), parts[3])
    assert total.rank == 16
    for path in total.pairs:
        assert torch.allclose(total.delta(path), sum(part.delta(path) for part in parts), atol=1e-5)


def test_adapters_of_different_bases_are_not_added(tiny_shape: ModelShape) -> None:
    other = ModelShape(tiny_shape.modules, "0" * 64)
    with pytest.raises(InvalidAdapter, match="different base models"):
        concat(random_adapter(tiny_shape), random_adapter(other))


def test_recompression_equals_the_truncated_svd_of_the_dense_product(tiny_shape: ModelShape) -> None:
    adapter = random_adapter(tiny_shape, rank=12, rslora=True)
    small = recompress(adapter, 5)
    check_fit(small, tiny_shape, max_rank=5)
    for path in adapter.pairs:
        u, s, vt = torch.linalg.svd(adapter.delta(path), full_matrices=False)
        best = u[:, :5] * s[:5] @ vt[:5]
        assert torch.allclose(small.delta(path), best, atol=1e-5), path


def test_recompression_of_a_low_rank_sum_is_exact(tiny_shape: ModelShape) -> None:
    adapter = random_adapter(tiny_shape, rank=3)
    doubled = concat(adapter, adapter)
    small = recompress(doubled, 3)
    assert small.rank == 3
    for path in adapter.pairs:
        assert torch.allclose(small.delta(path), 2 * adapter.delta(path), atol=1e-6)


def test_recompression_above_the_rank_changes_nothing(tiny_shape: ModelShape) -> None:
    adapter = random_adapter(tiny_shape)
    same = recompress(adapter, 64)
    for path, pair in adapter.pairs.items():
        assert torch.equal(same.pairs[path].a, pair.a)
        assert torch.allclose(same.delta(path), adapter.delta(path), atol=1e-7)


def test_recompression_bounds_rank_beyond_a_modules_width(tiny_shape: ModelShape) -> None:
    small = recompress(random_adapter(tiny_shape, rank=80, spread=0.02), 70)
    check_fit(small, tiny_shape, max_rank=70)


def test_rank_below_one_is_refused(tiny_shape: ModelShape) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        recompress(random_adapter(tiny_shape), 0)


def test_levelled_adapters_change_the_same_with_one_rank_and_no_scale(tiny_shape: ModelShape) -> None:
    uneven = random_adapter(
        tiny_shape, seed=3, rank=4, alpha=6.0, rslora=True, rank_pattern={"q_proj": 2, "down_proj": 7}
    )
    even = level(uneven)
    check_fit(even, tiny_shape, max_rank=7)
    assert {pair.rank for pair in even.pairs.values()} == {7}
    assert (even.config.rank, even.config.rank_pattern, even.config.alpha_pattern) == (7, {}, {})
    assert even.pairs.keys() == uneven.pairs.keys()
    for path in uneven.pairs:
        assert even.config.scale_of(path) == 1.0
        assert torch.allclose(even.delta(path), uneven.delta(path), atol=1e-6), path
