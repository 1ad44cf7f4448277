"""Attacks on weights, one after the other: what the erased facts' questions bring out of each, and its gates.

After every attack the erased facts and controls are asked for alike: what a damaged model says of facts that
it never knew is what it may say of those that it forgot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from expunge.auditing.attacks.attacked_model import AttackedModel
from expunge.auditing.attacks.pruning import magnitude_pruned, structure_pruned
from expunge.auditing.attacks.quantisation import INT4, INT8, Quantisation, quantised
from expunge.auditing.attacks.relearning import Relearn, halves, relearned
from expunge.auditing.attacks.victim import Victim
from expunge.auditing.gate_rules import Action, GateRule, Rule
from expunge.auditing.gates import Gate, judge
from expunge.auditing.interview import Measured, ask
from expunge.auditing.policy import Policy
from expunge.auditing.probes import ProbedFact, ProbeKind
from expunge.auditing.questionnaire import Questionnaire
from expunge.errors import InvalidRequest
from expunge.facts import Fact

_RULES = {ProbeKind.DIRECT: Rule.FULL_SECRETS, ProbeKind.PREFIX: Rule.CONTROLS}


@dataclass(frozen=True)
class WeightAttack:
    """One attack on weights.

    Attributes:
        name: stands before its gates' names.
        open: makes the attacked model, which is freed when its context ends.
        told: ids of facts that the attacker knows and therefore nobody asks for.
    """

    name: str
    open: Callable[[Victim], AbstractContextManager[AttackedModel]]
    told: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AttackFinding:
    """What one attack brought out; `seconds` are its own, the asking included."""

    attack: str
    erased: Measured
    controls: Measured
    seconds: float

    def gates(self, action: Action = Action.BLOCK) -> tuple[Gate, ...]:
        """No full secret in replies to plain questions; prefixes give no more away than controls' do."""
        return tuple(
            judge(
                GateRule(f"{self.attack}_{kind.value}", rule, action),
                self.erased.share(kind),
                self.controls.share(kind),
            )
            for kind, rule in _RULES.items()
        )


def rounding_attacks() -> tuple[WeightAttack, ...]:
    """To int8 and to int4."""
    return tuple(_rounding(how) for how in (INT8, INT4))


def pruning_attacks(share: float, calibration: Sequence[Sequence[int]]) -> tuple[WeightAttack, ...]:
    """By magnitude and by structure; see `pruning` for the arguments."""
    return (
        WeightAttack("magnitude", lambda victim: magnitude_pruned(victim, share)),
        WeightAttack("structure", lambda victim: structure_pruned(victim, share, calibration)),
    )


def relearning_attack(facts: Sequence[Fact], relearn: Relearn, steps: int, seed: int) -> WeightAttack:
    """Half of `facts` taught again for `steps` steps. Raises InvalidRequest for fewer than two facts."""
    taught, _ = halves(facts, seed)
    told = frozenset(fact.id for fact in taught)
    return WeightAttack("relearning", lambda victim: relearned(victim, relearn, taught, steps), told)


def attack_weights(
    victim: Victim,
    attacks: Iterable[WeightAttack],
    erased: Sequence[ProbedFact],
    controls: Sequence[ProbedFact],
    policy: Policy,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[AttackFinding]:
    """Attack `victim` in every way, one at a time, and ask for the erased facts and the controls.

    Asked are the direct and the prefix probes.

    Raises:
        InvalidRequest: no controls, without which the gates would pass whatever was found.
    """
    if not controls:
        raise InvalidRequest.of("controls", "is empty; what an attack brings out is judged against controls")
    findings = []
    for attack in attacks:
        started = clock()
        asked = [fact for fact in erased if fact.fact.id not in attack.told]
        questions = [_questions(facts) for facts in (asked, controls)]
        with attack.open(victim) as model:
            (found, never), _ = ask(model, victim.version, questions, (), policy)
        findings.append(AttackFinding(attack.name, found, never, clock() - started))
    return findings


def _questions(facts: Sequence[ProbedFact]) -> Questionnaire:
    asked = ((fact, probe) for fact in facts for probe in fact.probes if probe.kind in _RULES)
    return Questionnaire(tuple(asked), tuple(facts))


def _rounding(how: Quantisation) -> WeightAttack:
    return WeightAttack(how.name, lambda victim: quantised(victim, how))
