"""The engine's benchmark, on the tiny model: it measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.benchmarks.engine.run import run_engine_benchmark, tables
from expunge.benchmarks.engine.steps import measure
from expunge.config import Settings


def test_contenders_take_turns_and_the_median_counts() -> None:
    now, order = [0.0], []

    def work(name: str, seconds: list[float]) -> None:
        order.append(name)
        now[0] += seconds.pop(0)

    first, second = [9.0, 9.0, 1.0, 3.0, 2.0], [9.0, 9.0, 5.0, 5.0, 8.0]
    found = measure(
        {"first": lambda: work("first", first), "second": lambda: work("second", second)},
        repeats=3,
        timer=lambda: now[0],
    )
    assert found == {"first": 2000.0, "second": 5000.0}  # the first two of each only warm up
    assert order == ["first", "second"] * 5


async def test_every_figure_is_measured(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = Settings(
        model=str(tiny_model_folder), cache_dir=tmp_path, dtype="float32", kv_cache_mib=16, engine_threads=1
    )
    told: list[str] = []
    figures = await run_engine_benchmark(settings, repeats=1, rounds=1, say=told.append)
    assert [row["rows"] for row in figures["decode_ms"]] == [1, 2, 4, 8, 16, 32]
    assert all(set(row) == {"rows", "torch", "kernels", "weights in bf16"} for row in figures["decode_ms"])
    assert set(figures["prompt_beside_8_rows_ms"]) == {"0", "16", "32", "64"}
    for part in ("long_prompt", "adapter_load"):
        (found,) = figures[part]
        assert found["p99_ratio"] == pytest.approx(found["busy_p99_ms"] / found["quiet_p99_ms"])
    (beginning,) = figures["known_beginning"]
    assert beginning["later_s"] > 0
    assert len(tables(figures)) == len(figures)
