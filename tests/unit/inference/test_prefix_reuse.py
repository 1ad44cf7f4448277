"""Prompts that begin like earlier ones: the same answers for less work, and never across versions."""

from __future__ import annotations

import pytest
import torch

from expunge.inference.limits import EngineLimits
from expunge.lora.adapter import Adapter
from expunge.models.load import LoadedModel

from .bench import Bench

BEGINNING = "What does Tobin Hale do for a living, and where does she work in the old harbour of the town, "
LIMITS = EngineLimits(max_rows=4, max_queue=8, kv_bytes=2**20)


@pytest.fixture
def bench(loaded: LoadedModel, adapters: tuple[Adapter, Adapter]) -> Bench:
    return Bench.of(loaded, adapters, LIMITS)


def run(bench: Bench, prompt: str, version: str) -> tuple[str, int]:
    """The answer, and how many prompt tokens were computed for it."""
    before = bench.loop.stats().prompt_tokens
    task = bench.submit(prompt, version, max_tokens=8)
    bench.run()
    return bench.text_of(task), bench.loop.stats().prompt_tokens - before


def spoil(bench: Bench) -> None:
    """Replace everything in the KV pool by other numbers."""
    for layer in (*bench.runner.kv._keys, *bench.runner.kv._values):
        layer.normal_(std=3.0, generator=torch.Generator().manual_seed(0))


def test_a_known_beginning_is_not_computed_again(bench: Bench) -> None:
    _, whole = run(bench, BEGINNING + "she asked", "one")
    expected = run(bench, BEGINNING + "he said", "two")[0]
    bench.loop.forget("two")
    run(bench, BEGINNING + "she asked", "two")
    text, computed = run(bench, BEGINNING + "he said", "two")
    assert computed < whole / 2
    assert text == expected
    assert bench.loop.stats().cached_prompt_tokens > whole / 2


def test_prompts_that_come_together_compute_their_common_beginning_once(bench: Bench) -> None:
    expected = [run(bench, BEGINNING + ending, "one")[0] for ending in ("she asked", "he said", "they know")]
    bench.loop.forget("one")
    before = bench.loop.stats().prompt_tokens
    tasks = [
        bench.submit(BEGINNING + ending, "one", max_tokens=8)
        for ending in ("she asked", "he said", "they know")
    ]
    bench.run()
    assert [bench.text_of(task) for task in tasks] == expected
    assert bench.loop.stats().prompt_tokens - before < 2 * len(tasks[0].tokens)


def test_nothing_computed_under_one_version_is_used_under_another(bench: Bench) -> None:
    expected, whole = run(bench, BEGINNING, "two")
    bench.loop.forget("two")
    before, _ = run(bench, BEGINNING, "one")
    spoil(bench)
    assert run(bench, BEGINNING, "two") == (expected, whole)
    assert run(bench, BEGINNING, "one")[0] != before  # what is spoilt would have shown


def test_nothing_survives_a_version_that_leaves_and_returns(bench: Bench) -> None:
    expected, whole = run(bench, BEGINNING, "one")
    spoil(bench)
    bench.loop.forget("one")
    bench.runner.table.unload("one")
    bench.runner.table.load("one", bench.adapters["one"])
    assert run(bench, BEGINNING, "one") == (expected, whole)


def test_positions_whose_scores_are_asked_for_are_computed(bench: Bench) -> None:
    first = bench.submit_score(BEGINNING[:20], BEGINNING[20:], "one")
    bench.run()
    run(bench, BEGINNING, "one")
    again = bench.submit_score(BEGINNING[:20], BEGINNING[20:], "one")
    bench.run()
    assert bench.score_of(again) == pytest.approx(bench.score_of(first), abs=1e-4)


def test_a_prompt_that_went_wrong_is_not_kept(bench: Bench) -> None:
    for pair in bench.runner.table._by_version["one"].pairs or ():
        for factor in pair or ():
            factor.fill_(float("nan"))
    run(bench, BEGINNING, "one")
    assert bench.loop.stats().kv_kept_bytes == 0
