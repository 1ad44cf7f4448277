"""Scores of the task set, and that a version is asked once."""

from __future__ import annotations

from expunge.auditing.ability.scores import KnownScores, score_tasks
from expunge.auditing.ability.tasks import Task, shipped_tasks

from ..able_model import AbleModel
from ..scripted_model import REFUSAL

SHIPPED = shipped_tasks()
FEW = SHIPPED.some([Task.KNOWLEDGE, Task.REASONING], 8)


def test_every_item_of_every_task_is_scored() -> None:
    instruction = SHIPPED.instructions[0]

    def reply(prompt: str, draw: int) -> str:
        return "Lantern" if instruction.instruction in prompt else REFUSAL

    scores = score_tasks(AbleModel({"v": ["italy", "taller"]}, reply), "v", SHIPPED)
    right = {task: dict(zip(SHIPPED.ids(task), scores[task], strict=True)) for task in Task}
    assert {id for id, one in right[Task.KNOWLEDGE].items() if not one} == {"italy"}
    assert {id for id, one in right[Task.REASONING].items() if not one} == {"taller"}
    assert [id for id, one in right[Task.INSTRUCTIONS].items() if one] == [instruction.id]
    assert all(right[Task.REFUSALS].values())


def test_only_tasks_with_items_are_scored() -> None:
    assert set(score_tasks(AbleModel({"v": []}), "v", FEW)) == {Task.KNOWLEDGE, Task.REASONING}


def test_a_version_is_asked_once() -> None:
    model, known = AbleModel({"before": [], "after": ["italy"]}), KnownScores()
    first = known.of(model, "after", FEW)
    known.of(model, "before", FEW)
    assert known.of(model, "after", FEW) == first
    assert model.passes == {"before": 1, "after": 1}
    known.of(model, "after", SHIPPED.some([Task.KNOWLEDGE]))
    assert model.passes["after"] == 2


def test_versions_that_were_asked_long_ago_are_forgotten() -> None:
    names = [f"v{index}" for index in range(20)]
    model, known = AbleModel({name: [] for name in names}), KnownScores()
    for name in (*names, names[-1], names[0]):
        known.of(model, name, FEW)
    assert (model.passes[names[-1]], model.passes[names[0]]) == (1, 2)
