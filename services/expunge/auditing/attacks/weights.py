"""The weights of the version under audit, for the attacks that its policy asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from expunge.auditing.attacks.attack import Attack
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
from expunge.auditing.attacks.relearning import Relearn
from expunge.auditing.attacks.victim import Victim
from expunge.auditing.policy import Policy
from expunge.auditing.probes import ProbedFact


@dataclass(frozen=True)
class Weights:
    """What attacks on weights need beside the facts.

    Attributes:
        victim: the version under audit.
        relearn: trains it on a few answers.
        calibration: token ids of ordinary texts, by which pruning judges what matters.
    """

    victim: Victim
    relearn: Relearn
    calibration: Sequence[Sequence[int]]

    def attacked(
        self,
        attacks: Collection[Attack],
        erased: Sequence[ProbedFact],
        controls: Sequence[ProbedFact],
        policy: Policy,
    ) -> list[AttackFinding]:
        """What each of `attacks` brings out; relearning needs two erased facts, and is left out of one."""
        ways = [way for attack in attacks for way in self._ways(attack, erased, policy)]
        return attack_weights(self.victim, ways, erased, controls, policy)

    def _ways(self, attack: Attack, erased: Sequence[ProbedFact], policy: Policy) -> Iterator[WeightAttack]:
        if attack is Attack.INT8:
            yield rounding_attack(INT8)
        elif attack is Attack.INT4:
            yield rounding_attack(INT4)
        elif attack is Attack.MAGNITUDE:
            yield magnitude_attack(policy.pruned_share)
        elif attack is Attack.STRUCTURE:
            yield structure_attack(policy.pruned_share, self.calibration)
        elif len(erased) > 1:
            facts = [fact.fact for fact in erased]
            yield relearning_attack(facts, self.relearn, policy.relearning_steps, policy.seed)
