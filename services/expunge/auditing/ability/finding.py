"""General ability before and after, task by task and ability by ability, on the same items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from expunge.auditing.ability.scores import INSTRUCTION_TOKENS, REFUSAL_TOKENS, Scores
from expunge.auditing.ability.tasks import SET_VERSION, Ability, Task, TaskSet
from expunge.auditing.metrics.definitions import Definition, definition
from expunge.auditing.metrics.estimate import Estimate, Floats, bootstrap

_SEED = 0  # of the bootstrap


@dataclass(frozen=True)
class TaskFinding:
    """One task under the baseline and under the audited version.

    Attributes:
        before, after: share of its items that are right, with Wilson's interval.
        change: mean over the items of after minus before, with the bootstrap's interval.
        lost, gained: ids of the items that only the baseline, or only the audited version gets right.
    """

    task: Task
    before: Estimate
    after: Estimate
    change: Estimate
    lost: tuple[str, ...]
    gained: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.task.value,
            **{name: getattr(self, name).to_dict() for name in ("before", "after", "change")},
            "lost": list(self.lost),
            "gained": list(self.gained),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskFinding:
        before, after, change = (Estimate.from_dict(data[name]) for name in ("before", "after", "change"))
        return cls(Task(data["task"]), before, after, change, tuple(data["lost"]), tuple(data["gained"]))


@dataclass(frozen=True)
class AbilityFinding:
    """What was measured of general ability.

    Attributes:
        version: of the task set (`tasks.SET_VERSION`).
        digest: of the items that were asked (`TaskSet.digest`).
        tasks: those that were asked.
        changes: by ability, TRACE's delta: the mean over its tasks of the score after minus the score
            before; its interval comes from drawing each task's items anew, both versions' answers to an item
            together.
    """

    version: int
    digest: str
    tasks: tuple[TaskFinding, ...]
    changes: Mapping[Ability, Estimate]

    @classmethod
    def of(cls, tasks: TaskSet, before: Scores, after: Scores) -> AbilityFinding:
        """Compare the scores of two versions, both of all items of `tasks`."""
        changes = {task: _paired(before[task], after[task]) for task in before}
        findings = tuple(
            TaskFinding(
                task,
                Estimate.of_share(before[task], _definition(task)),
                Estimate.of_share(after[task], _definition(task)),
                _mean_change([change]),
                _where(tasks.ids(task), change < 0),
                _where(tasks.ids(task), change > 0),
            )
            for task, change in changes.items()
        )
        abilities = dict.fromkeys(task.ability for task in changes)
        return cls(
            SET_VERSION,
            tasks.digest,
            findings,
            {
                ability: _mean_change([change for task, change in changes.items() if task.ability is ability])
                for ability in abilities
            },
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "digest": self.digest,
            "tasks": [finding.to_dict() for finding in self.tasks],
            "changes": {ability.value: change.to_dict() for ability, change in self.changes.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AbilityFinding:
        return cls(
            data["version"],
            data["digest"],
            tuple(TaskFinding.from_dict(item) for item in data["tasks"]),
            {Ability(name): Estimate.from_dict(item) for name, item in data["changes"].items()},
        )


def _paired(before: Sequence[bool], after: Sequence[bool]) -> Floats:
    """After minus before, item by item: −1, 0 or 1, [n]."""
    return np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)


def _mean_change(changes: Sequence[Floats]) -> Estimate:
    """The mean over tasks of each one's mean change, every task drawn from on its own."""
    lower, upper = bootstrap(_mean_of_means, changes, _SEED)
    items = sum(change.size for change in changes)
    return Estimate(float(_mean_of_means(*changes)), lower, upper, items, definition("ability_delta").id)


def _mean_of_means(*changes: Floats, axis: int = -1) -> Any:
    return np.mean([np.mean(change, axis=axis) for change in changes], axis=0)


def _where(ids: Sequence[str], chosen: Any) -> tuple[str, ...]:
    return tuple(id for id, one in zip(ids, chosen, strict=True) if one)


def _definition(task: Task) -> Definition:
    if task is Task.INSTRUCTIONS:
        return definition("instructions_followed", max_new_tokens=INSTRUCTION_TOKENS)
    if task is Task.REFUSALS:
        return definition("refusal_rate", max_new_tokens=REFUSAL_TOKENS)
    return definition("choice_accuracy")
