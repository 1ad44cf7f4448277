"""Whole audits of versions that lost a general ability: its gate stops or tells them, and no other one."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace

import pytest

from expunge.auditing.ability.scores import KnownScores
from expunge.auditing.ability.tasks import Ability, Task, shipped_tasks
from expunge.auditing.audit import audit_version
from expunge.auditing.policy import Policy
from expunge.auditing.report import AuditReport
from expunge.facts import ForgetRequest

from .able_model import AbleModel
from .text_policies import DEFAULT, STRICT

ASKED = DEFAULT.tasks()
KNOWLEDGE, REASONING = (ASKED.ids(task) for task in (Task.KNOWLEDGE, Task.REASONING))


def audited(failed: Collection[str], request: ForgetRequest) -> AuditReport:
    model = AbleModel({"before": REASONING[:4], "after": failed})
    return audit_version(model, "after", request, policy=DEFAULT, baseline="before")


@pytest.fixture
def asked(request_to_forget: ForgetRequest) -> ForgetRequest:
    """Without retain data, which the scripted model never knew."""
    return replace(request_to_forget, retain=())


@pytest.mark.parametrize("policy", [DEFAULT, STRICT], ids=lambda policy: policy.name)
def test_one_that_lost_its_general_ability_is_stopped_by_the_gate_for_it(
    asked: ForgetRequest, policy: Policy
) -> None:
    tasks = policy.tasks()
    lost = (tasks.ids(Task.KNOWLEDGE)[::2], tasks.ids(Task.REASONING)[::4])
    model = AbleModel({"before": [], "after": [*lost[0], *lost[1]]})
    report = audit_version(model, "after", asked, policy=policy, baseline="before")
    assert report.failed_gates == ("general_ability",)
    (gate,) = [gate for gate in report.gates if gate.name == "general_ability"]
    assert "fell by 0.375" in gate.sentence  # (1/2 + 1/4) / 2
    assert report.ability is not None
    assert report.ability.tasks[0].lost == lost[0]


def test_one_that_answers_as_before_passes(asked: ForgetRequest) -> None:
    report = audited(REASONING[:4], asked)
    assert report.passed
    assert report.ability is not None
    assert report.ability.changes.keys() == {Ability.GENERAL}
    assert [finding.change.value for finding in report.ability.tasks] == [0.0, 0.0]


def test_one_that_errs_elsewhere_as_often_passes(asked: ForgetRequest) -> None:
    assert audited([*KNOWLEDGE[:2], *REASONING[5:8]], asked).passed


def test_what_some_items_only_hint_at_all_items_decide(asked: ForgetRequest) -> None:
    every = shipped_tasks().ids(Task.KNOWLEDGE)
    hint = KNOWLEDGE[:3]  # of 16: a fall of 0.094, which may be chance
    unasked = [id for id in every if id not in KNOWLEDGE]
    for failed, passed in ((hint, True), ([*hint, *unasked], False)):
        model = AbleModel({"before": [], "after": failed})
        report = audit_version(model, "after", asked, policy=DEFAULT, baseline="before")
        assert report.passed is passed
        assert report.ability is not None
        assert report.ability.changes[Ability.GENERAL].n == 80
        assert report.ability.tasks[0].lost == tuple(id for id in every if id in failed)


def test_without_a_baseline_ability_is_not_judged_and_the_report_says_so(asked: ForgetRequest) -> None:
    model = AbleModel({"after": KNOWLEDGE})
    report = audit_version(model, "after", asked, policy=DEFAULT)
    assert report.ability is None
    assert model.passes == {"after": 0}
    assert any("general ability were not judged" in note for note in report.notes)


def test_what_is_only_reported_is_asked_in_the_thorough_audit(asked: ForgetRequest) -> None:
    model = AbleModel({"before": [], "after": []}, compliant=["before", "after"])
    brief = audit_version(model, "after", asked, policy=DEFAULT, baseline="before")
    assert any("sampled, instructions, refusals" in note for note in brief.notes)
    thorough = audit_version(model, "after", asked, policy=DEFAULT, baseline="before", thorough=True)
    assert thorough.ability is not None
    assert [(task.task, task.after.n, task.after.value) for task in thorough.ability.tasks] == [
        (Task.KNOWLEDGE, 40, 1.0),
        (Task.REASONING, 40, 1.0),
        (Task.INSTRUCTIONS, 40, 0.0),
        (Task.REFUSALS, 36, 0.0),
    ]
    assert thorough.ability.tasks[3].after.upper == pytest.approx(0.096, abs=1e-3)  # Wilson, 0 of 36


def test_one_that_refuses_no_more_is_told_and_stopped_by_the_strict_policy(asked: ForgetRequest) -> None:
    model = AbleModel({"before": [], "after": []}, compliant=["after"])
    report = audit_version(model, "after", asked, policy=DEFAULT, baseline="before", thorough=True)
    assert report.passed
    assert [gate.name for gate in report.gates if not gate.passed] == ["safety"]
    strict = audit_version(model, "after", asked, policy=STRICT, baseline="before")
    assert strict.failed_gates == ("safety",)


def test_a_baseline_that_was_audited_is_not_asked_again(asked: ForgetRequest) -> None:
    model, scores = AbleModel({"first": [], "second": [], "third": []}), KnownScores()
    audit_version(model, "second", asked, policy=DEFAULT, baseline="first", scores=scores)
    audit_version(model, "third", asked, policy=DEFAULT, baseline="second", scores=scores)
    assert model.passes == {"first": 1, "second": 1, "third": 1}


def test_the_report_goes_to_json_and_back_also_one_of_an_earlier_release(asked: ForgetRequest) -> None:
    report = audited(REASONING[:4], asked)
    stored = json.loads(json.dumps(report.to_dict()))
    assert AuditReport.from_dict(stored) == report
    del stored["ability"]
    assert AuditReport.from_dict(stored) == replace(report, ability=None)
