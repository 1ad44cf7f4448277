"""The policies that come along, for versions of which only answers are at hand and no weights."""

from __future__ import annotations

from dataclasses import replace

from expunge.auditing.ability.tasks import Ability
from expunge.auditing.attacks.attack import ATTACK_FIGURES
from expunge.auditing.policy import DEFAULT_POLICY, Policy


def without_attacks(policy: Policy) -> Policy:
    """The same policy, but that it leaves the weights alone."""
    return replace(policy, gates=tuple(gate for gate in policy.gates if gate.figure not in ATTACK_FIGURES))


DEFAULT = without_attacks(DEFAULT_POLICY)
STRICT = without_attacks(Policy.named("strict"))
# The tiny models have no general ability: what each guesses differs from model to model.
TINY = replace(DEFAULT, gates=tuple(gate for gate in DEFAULT.gates if gate.figure not in list(Ability)))
