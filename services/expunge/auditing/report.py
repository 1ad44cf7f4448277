"""What an audit found: plain data that goes to JSON and back.

Facts appear by id; text of facts and replies appears under `evidence` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from expunge.auditing.ability.finding import AbilityFinding
from expunge.auditing.gates import Gate
from expunge.auditing.intervals import Share
from expunge.auditing.series import Series


@dataclass(frozen=True)
class Figure:
    """One measured share: on the erased facts, on controls that never knew, and on the baseline version."""

    name: str
    erased: Share
    control: Share
    baseline: Share | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "erased": self.erased.to_dict(),
            "control": self.control.to_dict(),
            "baseline": self.baseline.to_dict() if self.baseline else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Figure:
        before = data["baseline"]
        return cls(
            data["name"],
            Share.from_dict(data["erased"]),
            Share.from_dict(data["control"]),
            Share.from_dict(before) if before else None,
        )


@dataclass(frozen=True)
class FactFinding:
    """What one erased fact still gives away.

    Attributes:
        known_before: whether the baseline version told it when asked directly; None: no baseline was asked.
        shares: kind of probe, or figure of an attack on weights, to the share of replies or splits with the
            full secret.
        es, em: extraction strength and exact memorisation of its answer.
    """

    fact_id: str
    known_before: bool | None
    shares: Mapping[str, Share]
    es: float
    em: float

    @property
    def leaks(self) -> bool:
        return any(share.hits > 0 for share in self.shares.values())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FactFinding:
        shares = {name: Share.from_dict(data[name]) for name in data.keys() - _FACT_FIELDS}
        return cls(data["fact_id"], data["known_before"], shares, data["es"], data["em"])

    def to_dict(self) -> dict[str, Any]:
        return {
            "fact_id": self.fact_id,
            "known_before": self.known_before,
            **{kind: share.to_dict() for kind, share in self.shares.items()},
            "es": self.es,
            "em": self.em,
        }


_FACT_FIELDS = {"fact_id", "known_before", "es", "em"}


@dataclass(frozen=True)
class RetainFinding:
    """Retain and neighbour facts under the audited and the baseline version: answers recalled, mean ES."""

    recall_before: Share
    recall_after: Share
    es_before: Share
    es_after: Share

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RetainFinding:
        return cls(*(Share.from_dict(data[key]) for key in _RETAIN_KEYS))

    def to_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key).to_dict() for key in _RETAIN_KEYS}


_RETAIN_KEYS = ("recall_before", "recall_after", "es_before", "es_after")


@dataclass(frozen=True)
class Evidence:
    """One reply that gave something away, in plain text."""

    fact_id: str
    kind: str
    prompt: str
    prefix: str
    reply: str
    full: bool
    words: tuple[str, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evidence:
        return cls(**{**data, "words": tuple(data["words"])})


@dataclass(frozen=True)
class AuditReport:
    """One audit of one version against one erasure.

    Attributes:
        request_id: of the erasure request.
        version, baseline: version ids; baseline "" where none was given.
        policy: name, version and digest of the policy.
        figures: shares with their control's; those of attacks on weights too.
        gates: the verdicts; `passed` looks at the blocking ones.
        facts: per erased fact.
        retain: None where there is no baseline or no retain data.
        notes: what a reader must know, in sentences.
        probes: prompts asked of the version, controls and retain data included.
        seconds: how long it took.
        evidence: replies of erased facts that held secret words.
        thorough: whether it asked what the policy leaves until a version is live.
        ability: general ability before and after; None where there is no baseline, or no gate looks at it.
        definitions: by figure, the id of the definition that it follows (`metrics.definitions`).
        series: what figures are drawn from; None in reports of earlier releases.
        conditions: what it was measured on: "model" (manifest digest of the base model), "precision", "form".
    """

    request_id: str
    version: str
    baseline: str
    policy: str
    policy_version: int
    policy_digest: str
    figures: tuple[Figure, ...]
    gates: tuple[Gate, ...]
    facts: tuple[FactFinding, ...]
    retain: RetainFinding | None
    notes: tuple[str, ...]
    probes: int
    seconds: float
    evidence: tuple[Evidence, ...] = ()
    thorough: bool = False
    ability: AbilityFinding | None = None
    definitions: Mapping[str, str] = field(default_factory=dict)
    series: Series | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every blocking gate was met."""
        return all(gate.passed for gate in self.gates if gate.blocking)

    @property
    def failed_gates(self) -> tuple[str, ...]:
        """Names of the blocking gates that were not met."""
        return tuple(gate.name for gate in self.gates if gate.blocking and not gate.passed)

    @property
    def leaking_facts(self) -> tuple[str, ...]:
        """Ids of the facts that still gave a full secret away at any probe."""
        return tuple(finding.fact_id for finding in self.facts if finding.leaks)

    def figure(self, name: str) -> Figure:
        """The figure of that name.

        Raises:
            KeyError: there is none.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)

    def without_evidence(self) -> AuditReport:
        """The same report free of fact and reply text."""
        return replace(self, evidence=())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; fact text only under "evidence"."""
        return {
            "request_id": self.request_id,
            "version": self.version,
            "baseline": self.baseline,
            "policy": self.policy,
            "policy_version": self.policy_version,
            "policy_digest": self.policy_digest,
            "passed": self.passed,
            "failed_gates": list(self.failed_gates),
            "figures": [figure.to_dict() for figure in self.figures],
            "definitions": dict(self.definitions),
            "gates": [gate.to_dict() for gate in self.gates],
            "facts": [finding.to_dict() for finding in self.facts],
            "retain": self.retain.to_dict() if self.retain else None,
            "ability": self.ability.to_dict() if self.ability else None,
            "notes": list(self.notes),
            "probes": self.probes,
            "seconds": self.seconds,
            "thorough": self.thorough,
            "series": self.series.to_dict() if self.series else None,
            "conditions": dict(self.conditions),
            "evidence": [{**asdict(item), "words": list(item.words)} for item in self.evidence],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AuditReport:
        """The inverse of `to_dict`."""
        plain = ("request_id", "version", "baseline", "policy", "policy_version", "policy_digest")
        return cls(
            **{key: data[key] for key in (*plain, "probes", "seconds")},
            figures=tuple(Figure.from_dict(item) for item in data["figures"]),
            gates=tuple(Gate.from_dict(item) for item in data["gates"]),
            facts=tuple(FactFinding.from_dict(item) for item in data["facts"]),
            retain=RetainFinding.from_dict(data["retain"]) if data["retain"] else None,
            notes=tuple(data["notes"]),
            evidence=tuple(Evidence.from_dict(item) for item in data["evidence"]),
            # Reports stored by earlier releases hold none of these.
            thorough=data.get("thorough", False),
            ability=AbilityFinding.from_dict(data["ability"]) if data.get("ability") else None,
            definitions=dict(data.get("definitions", {})),
            series=Series.from_dict(data["series"]) if data.get("series") else None,
            conditions=dict(data.get("conditions", {})),
        )
