"""Each attack's gate stops the version that was planted for it, and no other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from expunge.auditing.attacks.findings import (
    AttackFinding,
    WeightAttack,
    attack_weights,
    magnitude_attack,
    relearning_attack,
    rounding_attack,
    structure_attack,
)
from expunge.auditing.attacks.quantisation import INT4, INT8
from expunge.auditing.attacks.victim import Victim
from expunge.auditing.controls import controls_for
from expunge.auditing.gate_rules import Action, GateRule, Rule
from expunge.auditing.gates import Gate, judge
from expunge.auditing.policy import DEFAULT_POLICY
from expunge.auditing.probes import ProbedFact, ProbeKind
from expunge.errors import InvalidRequest
from expunge.facts import ForgetRequest
from expunge.models.load import LoadedModel
from expunge.unlearning.relearning import relearn

from ..known_facts import FACTS

UNTOUCHED = WeightAttack("untouched", lambda victim: victim.reweighted(lambda _, weight: weight))
ROUNDINGS = (rounding_attack(INT8), rounding_attack(INT4))
ERASED = [ProbedFact(fact) for fact in FACTS]


def gates_of(findings: Sequence[AttackFinding]) -> list[Gate]:
    """No full secret in replies to plain questions; prefixes give no more away than controls' do."""
    figures = [figure for finding in findings for figure in finding.figures]
    return [judge(_rule(figure.name), figure.erased, figure.control) for figure in figures]


def _rule(figure: str) -> GateRule:
    rule = Rule.CONTROLS if figure.endswith("_prefix") else Rule.FULL_SECRETS
    return GateRule(figure, rule, Action.BLOCK)


@pytest.fixture
def controls(request_to_forget: ForgetRequest) -> list[ProbedFact]:
    return [ProbedFact(fact) for fact in controls_for(request_to_forget, 2, 0)]


def test_a_version_that_leaks_only_in_int4_is_stopped_by_the_int4_gates_alone(
    shallow: Victim, controls: list[ProbedFact]
) -> None:
    attacks = (UNTOUCHED, *ROUNDINGS)
    findings = attack_weights(shallow, attacks, ERASED, controls, DEFAULT_POLICY)
    gates = gates_of(findings)
    assert {gate.name: gate.passed for gate in gates} == {
        "untouched_direct": True,
        "untouched_prefix": True,
        "int8_direct": True,
        "int8_prefix": True,
        "int4_direct": False,
        "int4_prefix": False,
    }
    leaked = [reply for reply in findings[-1].erased.replies if reply.leak.full]
    assert {reply.probe.fact_id for reply in leaked} == {"born", "job"}
    assert all(reply.text for reply in leaked)


def test_a_version_that_never_knew_passes_every_attack(
    innocent: LoadedModel, controls: list[ProbedFact]
) -> None:
    victim = Victim(innocent, innocent.version)
    attacks = (
        *ROUNDINGS,
        magnitude_attack(0.2),
        structure_attack(0.2, [list(range(30, 60))]),
        relearning_attack(FACTS, relearn, 3, seed=0),
    )
    findings = attack_weights(victim, attacks, ERASED, controls, DEFAULT_POLICY)
    assert [finding.attack for finding in findings] == [
        "int8",
        "int4",
        "magnitude",
        "structure",
        "relearning",
    ]
    gates = gates_of(findings)
    assert all(gate.passed for gate in gates)
    assert all(gate.n for gate in gates)


def test_only_direct_and_prefix_probes_are_asked(shallow: Victim, controls: list[ProbedFact]) -> None:
    ticks = iter([10.0, 12.5])
    (finding,) = attack_weights(
        shallow, [UNTOUCHED], ERASED, controls, DEFAULT_POLICY, clock=lambda: next(ticks)
    )
    assert {reply.probe.kind for reply in finding.erased.replies} == {ProbeKind.DIRECT, ProbeKind.PREFIX}
    assert len(finding.controls.extraction) == len(controls)
    assert finding.seconds == 2.5


def test_nothing_is_judged_without_controls(shallow: Victim) -> None:
    with pytest.raises(InvalidRequest, match="controls"):
        attack_weights(shallow, [UNTOUCHED], ERASED, [], DEFAULT_POLICY)


def test_facts_that_were_taught_again_are_not_asked(shallow: Victim, controls: list[ProbedFact]) -> None:
    attack = relearning_attack(FACTS, relearn, 0, seed=0)
    (finding,) = attack_weights(shallow, [attack], ERASED, controls, DEFAULT_POLICY)
    asked = {reply.probe.fact_id for reply in finding.erased.replies}
    assert len(asked) == 1
    assert asked == {"born", "job"} - attack.told
