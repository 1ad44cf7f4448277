"""Ability before and after: worked by hand, and what chance does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from expunge.auditing.ability.finding import AbilityFinding
from expunge.auditing.ability.tasks import Ability, Task, shipped_tasks
from expunge.auditing.gate_rules import Action, GateRule, Rule
from expunge.auditing.gates import Gate, ability_loss

TASKS = shipped_tasks().some([Task.KNOWLEDGE, Task.REASONING], 24)
RULE = GateRule(Ability.GENERAL, Rule.LOSS, Action.BLOCK, 0.05)


def gate(before: list[float], after: list[float], n: int = 24, seed: int = 0, paired: float = 0.0) -> Gate:
    """The verdict on versions that get an item right so often; a share `paired` alike, as one drew it."""
    drawn = np.random.default_rng(seed)
    tasks = shipped_tasks().some([Task.KNOWLEDGE, Task.REASONING], n)
    first = {task: drawn.random(n) < rate for task, rate in zip(tasks.asked, before, strict=True)}
    second = {
        task: np.where(drawn.random(n) < paired, first[task], drawn.random(n) < rate)
        for task, rate in zip(tasks.asked, after, strict=True)
    }
    scores = [{task: tuple(map(bool, each)) for task, each in one.items()} for one in (first, second)]
    return ability_loss(RULE, AbilityFinding.of(tasks, *scores).changes[Ability.GENERAL])


def test_golden_change_of_a_task_and_of_its_ability() -> None:
    before = {Task.KNOWLEDGE: (True,) * 24, Task.REASONING: (True, False) * 12}
    after = {Task.KNOWLEDGE: (False,) * 6 + (True,) * 18, Task.REASONING: (False, True) + (True, False) * 11}
    finding = AbilityFinding.of(TASKS, before, after)
    knowledge, reasoning = finding.tasks
    assert (knowledge.before.value, knowledge.after.value, knowledge.change.value) == (1.0, 0.75, -0.25)
    assert knowledge.lost == TASKS.ids(Task.KNOWLEDGE)[:6]
    assert (reasoning.change.value, reasoning.lost, reasoning.gained) == (
        0.0,
        TASKS.ids(Task.REASONING)[:1],
        TASKS.ids(Task.REASONING)[1:2],
    )
    overall = finding.changes[Ability.GENERAL]
    assert (overall.value, overall.n) == (-0.125, 48)  # (−.25 + 0) / 2
    assert overall.lower is not None
    assert overall.upper is not None
    # √(.25 · .75 / 24 + 2/24 / 24) / 2 = .053, times 1.96
    assert overall.upper - overall.lower == pytest.approx(2 * 0.104, abs=0.03)


def test_tasks_count_alike_however_many_items_they_have() -> None:
    tasks = shipped_tasks()
    some = type(tasks)(knowledge=tasks.knowledge[:4], reasoning=tasks.reasoning[:2])
    before = {Task.KNOWLEDGE: (True,) * 4, Task.REASONING: (True,) * 2}
    after = {Task.KNOWLEDGE: (True,) * 4, Task.REASONING: (False,) * 2}
    assert AbilityFinding.of(some, before, after).changes[Ability.GENERAL].value == -0.5


def test_it_goes_to_json_and_back() -> None:
    scores = {Task.KNOWLEDGE: (True, False) * 12, Task.REASONING: (True,) * 24}
    finding = AbilityFinding.of(TASKS, scores, scores)
    assert AbilityFinding.from_dict(json.loads(json.dumps(finding.to_dict()))) == finding


def test_a_version_that_answers_alike_passes() -> None:
    verdict = gate([0.9, 0.8], [0.9, 0.8], paired=1.0)
    assert verdict.passed
    assert verdict.value == 0.0


@pytest.mark.parametrize("paired", [0.0, 0.8])
def test_versions_that_differ_by_chance_alone_pass(paired: float) -> None:
    verdicts = [gate([0.95, 0.8], [0.95, 0.8], seed=seed, paired=paired) for seed in range(30)]
    assert all(verdict.passed for verdict in verdicts)
    assert any(verdict.hits for verdict in verdicts)


def test_versions_that_lost_a_third_of_their_answers_fail() -> None:
    verdicts = [gate([0.95, 0.8], [0.6, 0.5], seed=seed, paired=0.0) for seed in range(30)]
    assert sum(not verdict.passed for verdict in verdicts) >= 28
    assert "general ability fell by" in verdicts[0].sentence
    assert "surely more" in verdicts[0].sentence
