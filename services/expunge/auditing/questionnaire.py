"""What one version is asked: probes of facts, teacher-forced answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from expunge.auditing.policy import Policy
from expunge.auditing.probes import Probe, ProbedFact, ProbeKind

# Their gates compare with controls: few of those would allow many leaks.
_OF_EVERY_FACT = frozenset((ProbeKind.REVERSE, ProbeKind.SAMPLED))


@dataclass(frozen=True)
class Questionnaire:
    """Probes of facts, and facts whose answers are teacher-forced.

    Attributes:
        asked: each probe with its fact; a sampled one as often as it is answered.
        forced: the facts whose answers are teacher-forced.
    """

    asked: tuple[tuple[ProbedFact, Probe], ...]
    forced: tuple[ProbedFact, ...]

    @classmethod
    def full(cls, facts: Iterable[ProbedFact], policy: Policy) -> Questionnaire:
        """Every probe of every fact."""
        chosen = tuple(facts)
        return cls(tuple(pair for fact in chosen for pair in _asked(fact, policy)), chosen)

    @classmethod
    def of_controls(cls, controls: Sequence[ProbedFact], erased: int, policy: Policy) -> Questionnaire:
        """Every probe of a control of so many of the `erased` facts as the policy says, evenly spread, at
        least of one; of the others the prefixes, and some kinds (`_OF_EVERY_FACT`) once a fact.

        The first `erased` controls are of one fact each.
        """
        many = max(1, math.ceil(policy.fully_probed * erased))
        fully = {index * erased // many for index in range(many)}
        asked = (
            (fact, probe)
            for index, fact in enumerate(controls)
            for fact, probe in _asked(fact, policy)
            if index in fully
            or probe.kind is ProbeKind.PREFIX
            or (probe.kind in _OF_EVERY_FACT and index < erased)
        )
        return cls(tuple(asked), tuple(controls))

    @classmethod
    def direct(cls, facts: Iterable[ProbedFact]) -> Questionnaire:
        """The plain questions alone."""
        chosen = tuple(facts)
        return cls(tuple((fact, fact.probes[0]) for fact in chosen), chosen)


def _asked(fact: ProbedFact, policy: Policy) -> Iterator[tuple[ProbedFact, Probe]]:
    for probe in fact.probes:
        yield from [(fact, probe)] * (policy.samples if probe.kind is ProbeKind.SAMPLED else 1)
