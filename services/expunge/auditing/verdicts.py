"""The gates of a policy, held against what one audit found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.auditing.ability.finding import AbilityFinding
from expunge.auditing.ability.tasks import Ability
from expunge.auditing.gate_rules import GateRule, Rule
from expunge.auditing.gates import Gate, ability_loss, judge, retain_recall, retain_strength
from expunge.auditing.policy import Policy
from expunge.auditing.report import Figure, RetainFinding


def verdicts(
    policy: Policy,
    figures: Sequence[Figure],
    retain: RetainFinding | None,
    ability: AbilityFinding | None,
    *,
    thorough: bool,
) -> tuple[Gate, ...]:
    """A verdict for each gate whose figure was measured, in the policy's order."""
    found = {figure.name: figure for figure in figures}
    rules = (rule.in_audit(thorough=thorough) for rule in policy.gates)
    gates = (
        _against_baseline(rule, retain, ability) if rule.rule is Rule.LOSS else _against_controls(rule, found)
        for rule in rules
    )
    return tuple(gate for gate in gates if gate)


def _against_controls(rule: GateRule, figures: Mapping[str, Figure]) -> Gate | None:
    figure = figures.get(rule.figure)
    return judge(rule, figure.erased, figure.control) if figure else None


def _against_baseline(
    rule: GateRule, retain: RetainFinding | None, ability: AbilityFinding | None
) -> Gate | None:
    if rule.figure in list(Ability):
        change = ability.changes.get(Ability(rule.figure)) if ability else None
        return ability_loss(rule, change) if change else None
    if retain is None:
        return None
    if rule.figure == "retain_recall":
        return retain_recall(rule, retain.recall_before, retain.recall_after)
    return retain_strength(rule, retain.es_before, retain.es_after)
