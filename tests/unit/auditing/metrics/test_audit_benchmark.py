"""The audit benchmark: what it audits, and how it tells the model's time from its own."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

from expunge.benchmarks.audit import invented_sets, run_audit_benchmark


def test_forty_facts_have_seven_different_answers_each() -> None:
    sets = invented_sets(40)
    assert len({one.question for one in sets}) == len(sets) == 40
    assert all(len({one.answer, one.paraphrase, *one.perturbed}) == 7 for one in sets)
    assert invented_sets(40) == sets


def test_forward_passes_are_told_from_the_rest(tiny_model_folder: Path, tmp_path: Path) -> None:
    ticks = count()
    result, table = run_audit_benchmark(
        str(tiny_model_folder),
        invented_sets(3),
        cache=tmp_path,
        dtype="float32",
        repeats=2,
        clock=lambda: float(next(ticks)),
    )
    # a tick at the start, between scores and figures and at the end, and two around every forward pass
    passes = result["forward_passes"]
    assert result["forward_seconds"] == passes
    assert result["seconds"] == 2 * passes + 2
    assert result["ratio"] == result["ratios"][0] == (2 * passes + 2) / passes
    assert (result["facts"], result["answers"]) == (3, 21)
    assert result["figures"]["min_k_plus_plus"]["n"] == 3
    assert table.row_count == 4
    json.dumps(result)
