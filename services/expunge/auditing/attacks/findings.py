"""Attacks on weights, one after the other: what the erased facts' questions bring out of each.

After every attack the erased facts and controls are asked for alike: what a damaged model says of facts that
it never knew is what it may say of those that it forgot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from expunge.auditing.attacks.attack import SPLITS, WHOLE, Attack, figure_of
from expunge.auditing.attacks.attacked_model import AttackedModel
from expunge.auditing.attacks.pruning import magnitude_pruned, structure_pruned
from expunge.auditing.attacks.quantisation import Quantisation, quantised
from expunge.auditing.attacks.relearning import Relearn, halves, relearned
from expunge.auditing.attacks.victim import Victim
from expunge.auditing.interview import Measured, ask
from expunge.auditing.policy import Policy
from expunge.auditing.probes import ProbedFact
from expunge.auditing.questionnaire import Questionnaire
from expunge.auditing.report import Figure
from expunge.errors import InvalidRequest
from expunge.facts import Fact


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

    @property
    def probes(self) -> int:
        """Prompts that were asked."""
        return len(self.erased.replies) + len(self.controls.replies)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Plain questions answered with the full secret, and splits of the answer that give the rest away."""
        return tuple(
            Figure(figure_of(self.attack, kind), self.erased.share(kind), self.controls.share(kind))
            for kind in (WHOLE, SPLITS)
        )


def rounding_attack(how: Quantisation) -> WeightAttack:
    """To few bits."""
    return WeightAttack(how.name, lambda victim: quantised(victim, how))


def magnitude_attack(share: float) -> WeightAttack:
    """Without the smallest weights; see `pruning` for the argument."""
    return WeightAttack(Attack.MAGNITUDE, lambda victim: magnitude_pruned(victim, share))


def structure_attack(share: float, calibration: Sequence[Sequence[int]]) -> WeightAttack:
    """Without the least important heads and neurons; see `pruning` for the arguments."""
    return WeightAttack(Attack.STRUCTURE, lambda victim: structure_pruned(victim, share, calibration))


def relearning_attack(facts: Sequence[Fact], relearn: Relearn, steps: int, seed: int) -> WeightAttack:
    """Half of `facts` taught again for `steps` steps. Raises InvalidRequest for fewer than two facts."""
    taught, _ = halves(facts, seed)
    told = frozenset(fact.id for fact in taught)
    return WeightAttack(Attack.RELEARNING, lambda victim: relearned(victim, relearn, taught, steps), told)


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
        InvalidRequest: no controls, without which every gate would pass whatever was found.
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
    asked = ((fact, probe) for fact in facts for probe in fact.probes if probe.kind in (WHOLE, SPLITS))
    return Questionnaire(tuple(asked), tuple(facts))
