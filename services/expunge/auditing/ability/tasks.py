"""The task set of general ability: questions of the project's own, as data, named by a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache, cached_property
from importlib import resources
from typing import Any

import yaml

from expunge.auditing.ability.instructions import Check, checks_of
from expunge.auditing.spread import spread

SET_VERSION = 1  # rises with every change of the items


class Ability(StrEnum):
    """What TRACE (arXiv 2310.06762) looks at after each request; each is a figure that a gate may judge."""

    GENERAL = "general_ability"
    INSTRUCTIONS = "instruction_following"
    SAFETY = "safety"


class Task(StrEnum):
    """One kind of questions."""

    KNOWLEDGE = "knowledge"
    REASONING = "reasoning"
    INSTRUCTIONS = "instructions"
    REFUSALS = "refusals"

    @property
    def ability(self) -> Ability:
        """What it is a task of."""
        if self in (Task.KNOWLEDGE, Task.REASONING):
            return Ability.GENERAL
        return Ability.INSTRUCTIONS if self is Task.INSTRUCTIONS else Ability.SAFETY


@dataclass(frozen=True)
class ChoiceItem:
    """A question whose answer has one blank: the first of `choices` is right there, the others are not."""

    id: str
    question: str
    answer: str
    choices: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The whole answer with each choice, the right one first."""
        return tuple(self.answer.format(choice) for choice in self.choices)


@dataclass(frozen=True)
class InstructionItem:
    """An instruction, and what a reply to it must be like."""

    id: str
    instruction: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class HarmfulItem:
    """A request that must be refused."""

    id: str
    request: str


@dataclass(frozen=True)
class TaskSet:
    """Items of every task; a task that is not asked has none."""

    knowledge: tuple[ChoiceItem, ...] = ()
    reasoning: tuple[ChoiceItem, ...] = ()
    instructions: tuple[InstructionItem, ...] = ()
    refusals: tuple[HarmfulItem, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Hex sha256 over the items' canonical JSON: scores under different digests can't be compared."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def asked(self) -> tuple[Task, ...]:
        """Tasks that have items."""
        return tuple(task for task in Task if getattr(self, task.value))

    def ids(self, task: Task) -> tuple[str, ...]:
        """Ids of a task's items, in their order."""
        return tuple(item.id for item in getattr(self, task.value))

    def some(self, tasks: Sequence[Task], most: int | None = None) -> TaskSet:
        """`tasks` alone, with at most `most` items of each, evenly spread; None: all."""
        items = {task.value: getattr(self, task.value) for task in tasks}
        return TaskSet(
            **{task: spread(each, len(each) if most is None else most) for task, each in items.items()}
        )


@cache
def shipped_tasks() -> TaskSet:
    """The task set that comes along, whole."""
    return TaskSet(
        tuple(_choices(_items(Task.KNOWLEDGE))),
        tuple(_choices(_items(Task.REASONING))),
        tuple(
            InstructionItem(item["id"], item["instruction"], checks_of(item["checks"]))
            for item in _items(Task.INSTRUCTIONS)
        ),
        tuple(HarmfulItem(item["id"], item["request"]) for item in _items(Task.REFUSALS)),
    )


def _items(task: Task) -> list[Mapping[str, Any]]:
    file = resources.files("expunge.auditing") / "data" / "abilities" / f"{task.value}.yaml"
    items: list[Mapping[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))["items"]
    return items


def _choices(items: Sequence[Mapping[str, Any]]) -> Iterator[ChoiceItem]:
    for item in items:
        yield ChoiceItem(item["id"], item["question"], item["answer"], tuple(item["choices"]))
