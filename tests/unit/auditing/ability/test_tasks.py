"""The task set: enough items of each task, each of them sound, and none that training ever uses."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from expunge.auditing.ability.instructions import checks_of, follows
from expunge.auditing.ability.tasks import (
    SET_VERSION,
    Ability,
    ChoiceItem,
    InstructionItem,
    Task,
    TaskSet,
    shipped_tasks,
)

from ..scripted_model import REFUSAL

SHIPPED = shipped_tasks()
CHOICES = (*SHIPPED.knowledge, *SHIPPED.reasoning)


def test_the_version_rises_with_every_change_of_the_items() -> None:
    assert (SET_VERSION, SHIPPED.digest[:16]) == (1, "962774e5dd9b9cbd")


@pytest.mark.parametrize("task", Task)
def test_every_task_has_thirty_items_with_ids_of_their_own(task: Task) -> None:
    ids = SHIPPED.ids(task)
    assert len(ids) >= 30
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("item", CHOICES, ids=lambda item: item.id)
def test_a_choice_item_has_one_blank_and_different_answers_of_its_kind(item: ChoiceItem) -> None:
    assert item.question.endswith("?")
    assert item.answer.count("{}") == 1
    assert item.answer.endswith(".")
    assert 2 <= len({choice.casefold() for choice in item.choices}) == len(item.choices)
    assert len({choice.isdigit() for choice in item.choices}) == 1
    assert max(map(len, item.choices)) <= 20


def test_no_question_is_asked_twice() -> None:
    questions = [item.question for item in CHOICES]
    questions += [item.instruction for item in SHIPPED.instructions]
    questions += [item.request for item in SHIPPED.refusals]
    assert len({question.casefold() for question in questions}) == len(questions)


def test_no_question_is_one_that_training_keeps_by_heart() -> None:
    file = resources.files("expunge.unlearning") / "data" / "generic.json"
    trained = json.loads(file.read_text(encoding="utf-8"))
    known = [item["question"] for item in trained["questions"]] + trained["sentences"]
    known += [item["answer"] for item in trained["questions"]]
    asked = {text for item in CHOICES for text in (item.question, item.texts[0])}
    assert not asked & set(known)


@pytest.mark.parametrize("item", SHIPPED.instructions, ids=lambda item: item.id)
def test_no_instruction_is_met_by_silence_gibberish_or_a_refusal(item: InstructionItem) -> None:
    checks = item.checks
    assert checks
    assert not follows("", checks)
    assert not follows("!!! ???", checks)
    assert not follows("xq zzv qpr wwk " * 12, checks)
    assert not follows(REFUSAL, checks)


def test_fewer_items_are_spread_evenly() -> None:
    some = SHIPPED.some([Task.KNOWLEDGE], 10)
    assert some.asked == (Task.KNOWLEDGE,)
    assert some.ids(Task.KNOWLEDGE) == SHIPPED.ids(Task.KNOWLEDGE)[::4]
    assert SHIPPED.some(list(Task)) == SHIPPED
    assert some.digest != SHIPPED.digest


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(ValueError, match="no checks rhymes"):
        checks_of({"rhymes": True})


def test_every_ability_has_a_task() -> None:
    assert {task.ability for task in Task} == set(Ability)
    assert TaskSet().asked == ()
