"""The MEMO benchmark: both ways agree and the result says how fast each was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from expunge.auditing.memo import MemoOptions
from expunge.benchmarks.memo import run_memo_benchmark
from expunge.errors import InvalidRequest

from .known_facts import FACTS


def test_the_benchmark_measures_both_ways_and_finds_them_equal(taught_folder: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    result, table = run_memo_benchmark(
        str(taught_folder),
        FACTS[:1],
        cache=tmp_path,
        options=MemoOptions(chat=True, max_new_tokens=20),
        progress=lambda what, done, total: told.append((what, done, total)),
    )
    assert result["largest_difference"] < 1e-9
    assert result["speed_up"] == pytest.approx(result["plain_seconds"] / result["batched_seconds"])
    assert result["cuts"] == result["plain_cuts"] == 13
    assert told == [("plain", 1, 1), ("batched", 1, 1)]
    assert table.row_count == 2
    json.dumps(result)


def test_the_plain_way_may_measure_fewer_and_is_compared_by_generation(
    taught_folder: Path, tmp_path: Path
) -> None:
    seconds = iter([0.0, 26.0, 100.0, 103.0])
    result, _ = run_memo_benchmark(
        str(taught_folder),
        FACTS[:2],
        cache=tmp_path,
        options=MemoOptions(chat=True, max_new_tokens=8),
        plain_facts=1,
        clock=lambda: next(seconds),
    )
    assert (result["plain_cuts"], result["plain_seconds"]) == (13, 26.0)
    assert result["speed_up"] == pytest.approx(2.0 / (3.0 / result["cuts"]))
    assert result["questions"] == 2
    assert result["largest_difference"] < 1e-9


def test_capped_cuts_and_no_facts_are_refused(taught_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="max_cuts"):
        run_memo_benchmark(str(taught_folder), FACTS, cache=tmp_path, options=MemoOptions(max_cuts=2))
    with pytest.raises(InvalidRequest, match="facts"):
        run_memo_benchmark(str(taught_folder), [], cache=tmp_path)
