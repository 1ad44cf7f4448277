"""The ability benchmark on the tiny model: what it asks, and what it holds against what."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import torch

from expunge.auditing.ability.tasks import shipped_tasks
from expunge.auditing.policy import DEFAULT_POLICY
from expunge.benchmarks.ability import noisy, run_ability_benchmark
from expunge.lora.peft_format import read_adapter
from tiny_model import build_tiny_adapter


def test_base_adapters_and_noise_are_asked(tiny_model_folder: Path, tmp_path: Path) -> None:
    adapter = build_tiny_adapter(tmp_path / "first", tiny_model_folder, seed=1)
    ticks = count()
    result, table = run_ability_benchmark(
        str(tiny_model_folder),
        [adapter],
        [0.0],
        cache=tmp_path,
        dtype="float32",
        policy=DEFAULT_POLICY,
        clock=lambda: float(next(ticks)),
    )
    base, first, same = result["versions"]
    assert [row["version"] for row in (base, first, same)] == ["base model", "first", "first + noise 0"]
    assert same["scores"] == first["scores"]
    assert [gate["name"] for gate in same["gates"]] == ["general_ability"]
    assert (same["gates"][0]["value"], same["gates"][0]["passed"]) == (0.0, True)
    assert {task: share["n"] for task, share in base["scores"].items()} == {
        task.value: len(shipped_tasks().ids(task)) for task in shipped_tasks().asked
    }
    assert (base["blocking_s"], base["all_s"]) == (1.0, 1.0)
    assert table.row_count == 3
    json.dumps(result)


def test_noise_moves_every_factor_of_b_by_its_own_deviation(tiny_model_folder: Path, tmp_path: Path) -> None:
    adapter = read_adapter(build_tiny_adapter(tmp_path / "first", tiny_model_folder, seed=1))
    moved = noisy(adapter, 0.5)
    for path, pair in adapter.pairs.items():
        change = (moved.pairs[path].b - pair.b).float()
        assert torch.equal(moved.pairs[path].a, pair.a)
        assert 0.4 < float(change.std() / pair.b.float().std()) < 0.6
