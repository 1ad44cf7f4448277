"""Policies: digest and file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expunge.auditing.ability.tasks import Task, shipped_tasks
from expunge.auditing.attacks.attack import ATTACK_FIGURES, Attack
from expunge.auditing.gate_rules import Action
from expunge.auditing.policy import DEFAULT_POLICY, Policy
from expunge.auditing.probes import ProbeKind
from expunge.config import Settings
from expunge.errors import ConfigError


def test_the_digest_changes_with_every_field() -> None:
    attacks = DEFAULT_POLICY.attacks
    changed = [
        replace(DEFAULT_POLICY, version=9),
        replace(DEFAULT_POLICY, gates=DEFAULT_POLICY.gates[1:]),
        replace(DEFAULT_POLICY, templates=("{question}",)),
        replace(DEFAULT_POLICY, attacks=replace(attacks, templates=attacks.templates[1:])),
    ]
    assert len({policy.digest for policy in (DEFAULT_POLICY, *changed)}) == 5
    assert Policy.named("default").digest == DEFAULT_POLICY.digest


def test_a_file_overrides_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "name: ours\nversion: 3\nfully_probed: 1\n"
        "gates: [{figure: retain_recall, rule: loss, most: 0, action: report}]\n"
        "attacks: {templates: [{kind: hint, question: '{question} It is {initial}.'}], examples: []}\n"
    )
    policy = Policy.named(str(path))
    assert (policy.name, policy.version, policy.fully_probed) == ("ours", 3, 1)
    assert gates(policy) == gates(DEFAULT_POLICY) | {"retain_recall": Action.REPORT}
    assert [template.kind for template in policy.attacks.templates] == [ProbeKind.HINT]


def test_default_blocks_on_every_full_secret_and_strict_lets_pass_nothing_that_default_reports() -> None:
    blocking = {figure for figure, action in gates(DEFAULT_POLICY).items() if action is Action.BLOCK}
    assert {kind.value for kind in ProbeKind} - blocking == {"sampled"}
    assert {"es", "em", "retain_recall", "retain_strength", "general_ability"} <= blocking
    reported = set(gates(DEFAULT_POLICY)) - blocking
    attacks = {name for name, attack in ATTACK_FIGURES.items() if attack is not Attack.INT8}
    abilities = {"instruction_following", "safety"}
    assert reported == {"partial", "sampled", "other_entity"} | attacks | abilities
    strict = gates(Policy.named("strict"))
    assert set(strict) == blocking | reported
    slow = {name for name, attack in ATTACK_FIGURES.items() if attack not in (Attack.INT8, Attack.INT4)}
    assert strict == dict.fromkeys(strict, Action.BLOCK) | dict.fromkeys(slow, Action.REOPEN)


def test_only_what_a_gate_needs_is_asked() -> None:
    assert DEFAULT_POLICY.kinds() == set(ProbeKind) - {ProbeKind.SAMPLED}
    assert DEFAULT_POLICY.kinds(thorough=True) == set(ProbeKind) == Policy.named("strict").kinds()
    assert DEFAULT_POLICY.weight_attacks() == (Attack.INT8,)
    assert set(DEFAULT_POLICY.weight_attacks(thorough=True)) == set(Attack)
    assert Policy.named("strict").weight_attacks() == (Attack.INT8, Attack.INT4)
    direct_only = replace(DEFAULT_POLICY, gates=())
    assert direct_only.kinds(thorough=True) == {ProbeKind.DIRECT}
    assert direct_only.weight_attacks(thorough=True) == ()


def test_tasks_are_asked_as_their_gates_say() -> None:
    general = [Task.KNOWLEDGE, Task.REASONING]
    assert DEFAULT_POLICY.tasks() == shipped_tasks().some(general, DEFAULT_POLICY.ability_items)
    assert DEFAULT_POLICY.tasks(thorough=True) == shipped_tasks()
    assert Policy.named("strict").tasks().asked == tuple(Task)
    assert replace(DEFAULT_POLICY, gates=()).tasks(thorough=True).asked == ()


def test_every_bad_field_is_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "name: 4\nleaks: 2\nmax_retain: much\ngates: [{figure: es, rule: loss, action: block}, 3]\n"
    )
    with pytest.raises(ConfigError) as caught:
        Policy.from_yaml(path)
    assert {violation.field for violation in caught.value.violations} == {
        "name",
        "leaks",
        "max_retain",
        "gates[0]",
        "gates[1]",
    }


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("{figure: direct, action: block}", "needs figure, rule and action"),
        ("{figure: direct, rule: full_secrets, action: stop}", "action of block, reopen, report"),
        ("{figure: guesses, rule: controls, action: block}", "can't judge 'guesses'"),
        ("{figure: es, rule: controls, most: 1, action: block}", "no use for `most`"),
        ("{figure: direct, rule: full_secrets, most: -1, action: block}", "at least 0"),
        ("{figure: direct, rule: full_secrets, least: 1, action: block}", "unknown keys least"),
    ],
)
def test_a_gate_that_says_nothing_sensible_is_refused(tmp_path: Path, gate: str, message: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"gates: [{gate}]\n")
    with pytest.raises(ConfigError, match=message):
        Policy.from_yaml(path)


def test_a_policy_without_controls_is_refused() -> None:
    with pytest.raises(ConfigError, match="controls_per_fact"):
        replace(DEFAULT_POLICY, controls_per_fact=0)


def test_a_policy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of default, strict"):
        Policy.named("lenient")


def test_the_service_is_held_to_the_policy_that_it_is_set_to(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("name: ours\nversion: 3\n")
    assert Policy.of(Settings()).digest == DEFAULT_POLICY.digest
    assert Policy.of(Settings(audit_policy="strict")).name == "strict"
    assert Policy.of(Settings(audit_policy=str(path))).name == "ours"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_retain: much", r"max_retain must be a int"),
        ("gates: [", "can't be read as YAML"),
        ("- gates", "must be a mapping"),
        (None, "does not exist; choose one of default, strict, or a YAML file"),
    ],
)
def test_a_setting_that_names_no_policy_is_refused_by_its_name(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "policy.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=rf"EXPUNGE_AUDIT_POLICY.*policy.yaml.*{message}"):
        Policy.of(Settings(audit_policy=str(path)))


def test_a_template_with_an_unknown_blank_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("attacks: {templates: [{kind: hint, question: '{answer}'}], examples: []}\n")
    with pytest.raises(ConfigError, match="unknown blanks answer"):
        Policy.from_yaml(path)


def gates(policy: Policy) -> dict[str, Action]:
    return {gate.figure: gate.action for gate in policy.gates}
