"""`expunge bench ability`: scores of the task set, what asking takes, and what noise in an adapter does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from expunge.auditing.ability.finding import AbilityFinding
from expunge.auditing.ability.meow import generation, shipped_passages, understanding
from expunge.auditing.ability.scores import Scores, score_tasks
from expunge.auditing.ability.tasks import Task, TaskSet, shipped_tasks
from expunge.auditing.policy import Policy
from expunge.auditing.verdicts import verdicts
from expunge.inference.local import LocalModel
from expunge.lora.adapter import Adapter, Pair
from expunge.lora.peft_format import read_adapter
from expunge.models.load import load_model

Clock = Callable[[], float]


@dataclass(frozen=True)
class Asked:
    """One version's scores of the items that block and of all, how long each took, and MEOW's measures."""

    brief: Scores
    every: Scores
    brief_s: float
    every_s: float
    meow: dict[str, Any]


def run_ability_benchmark(
    model_source: str,
    folders: Sequence[Path],
    noise: Sequence[float],
    *,
    cache: Path,
    dtype: str,
    policy: Policy,
    clock: Clock = time.perf_counter,
) -> tuple[dict[str, Any], Table]:
    """Ask the base model, each adapter, and the first adapter with noise.

    The first adapter is compared with the base model, all others with the first adapter. Noise is Gaussian,
    on the B factors, in standard deviations of each factor.

    Returns:
        figures ready for JSON, and the same as a table.
    """
    loaded = load_model(model_source, cache=cache, dtype=dtype)
    adapters = {folder.name: read_adapter(folder) for folder in folders}
    rank = max((adapter.rank for adapter in adapters.values()), default=1)
    model = LocalModel(loaded, slots=2, max_rank=rank)
    tasks = policy.tasks(), shipped_tasks()
    score_tasks(model, model.base_version, tasks[1].some(list(Task), 2))  # the first pass of all is slower
    baseline = _ask(model, "", None, tasks, clock)
    rows = [_row("base model", policy, tasks, baseline, baseline)]
    for name, adapter in _versions(adapters, noise):
        asked = _ask(model, name, adapter, tasks, clock)
        rows.append(_row(name, policy, tasks, baseline, asked))
        if len(rows) == 2:
            baseline = asked
    result = {
        "model": model_source,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "digest": tasks[1].digest,
        "blocking_items": {task.value: len(tasks[0].ids(task)) for task in tasks[0].asked},
        "versions": rows,
    }
    return result, _table(rows)


def _ask(
    model: LocalModel, name: str, adapter: Adapter | None, tasks: tuple[TaskSet, TaskSet], clock: Clock
) -> Asked:
    version = model.base_version
    if adapter:
        version = name
        model.load_adapter(version, adapter)
    began = clock()
    brief = score_tasks(model, version, tasks[0])
    between = clock()
    every = score_tasks(model, version, tasks[1])
    ended = clock()
    meow = {
        "understanding": understanding(model, version, (*tasks[1].knowledge, *tasks[1].reasoning)).to_dict(),
        "generation": generation(model, version, shipped_passages()).to_dict(),
    }
    if adapter:
        model.unload(version)
    return Asked(brief, every, between - began, ended - between, meow)


def noisy(adapter: Adapter, scale: float, seed: int = 0) -> Adapter:
    """The adapter with noise of `scale` standard deviations on every B factor."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {
        path: Pair(
            pair.a,
            pair.b + torch.randn(pair.b.shape, generator=generator).to(pair.b) * scale * pair.b.float().std(),
        )
        for path, pair in adapter.pairs.items()
    }
    return replace(adapter, pairs=pairs)


def _versions(adapters: dict[str, Adapter], noise: Sequence[float]) -> Iterator[tuple[str, Adapter]]:
    yield from adapters.items()
    for name, adapter in list(adapters.items())[:1]:
        yield from ((f"{name} + noise {scale:g}", noisy(adapter, scale)) for scale in noise)


def _row(
    name: str, policy: Policy, tasks: tuple[TaskSet, TaskSet], before: Asked, after: Asked
) -> dict[str, Any]:
    brief = AbilityFinding.of(tasks[0], before.brief, after.brief)
    every = AbilityFinding.of(tasks[1], before.every, after.every)
    return {
        "version": name,
        "blocking_s": after.brief_s,
        "all_s": after.every_s,
        "scores": {task.task.value: task.after.to_dict() for task in every.tasks},
        "changes": {ability.value: change.to_dict() for ability, change in every.changes.items()},
        "meow": after.meow,
        "gates": [gate.to_dict() for gate in verdicts(policy, (), None, brief, thorough=False)],
    }


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="General ability")
    tasks = list(rows[0]["scores"])
    meow = ("label", "Rep-3", "BLEU")
    for column in ("version", *tasks, "fall", "at least", "gate", "s", "s, all", *meow):
        table.add_column(column, justify="left" if column == "version" else "right")
    for row in rows:
        gates = row["gates"]
        table.add_row(
            row["version"],
            *(f"{row['scores'][task]['value']:.2f}" for task in tasks),
            ", ".join(f"{gate['hits'] / gate['n']:.3f}" for gate in gates),
            ", ".join(f"{gate['value']:.3f}" for gate in gates),
            ", ".join("passed" if gate["passed"] else "failed" for gate in gates),
            f"{row['blocking_s']:.1f}",
            f"{row['all_s']:.1f}",
            f"{row['meow']['understanding']['value']:.2f}",
            f"{row['meow']['generation']['rep_3']['value']:.2f}",
            f"{row['meow']['generation']['bleu']:.3f}",
        )
    table.caption = "scores and last seconds: all items; fall, gate and first seconds: those that block"
    return table
