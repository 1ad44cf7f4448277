"""What people watching an erasure are shown of each step: ids, counts and scores, never text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expunge.auditing.report import FactFinding
from expunge.unlearning.jobs import AuditResult, MeasureResult, TrainedResult

MOST_FACTS = 200  # of which single figures are shown; the sums are over all


def memo_figures(candidates: Mapping[str, list[str]], result: MeasureResult) -> dict[str, Any]:
    """MEMO of the true answers before, and which candidates were selected, by number and score."""
    shown = list(result.memo)[:MOST_FACTS]
    return {
        "memo_before": result.strength,
        "memo_variation": result.variation,
        "candidates": sum(map(len, candidates.values())),
        "memo": {fact: result.memo[fact]["true"] for fact in shown},
        "selected": {
            fact: [
                {"candidate": place, "memo": result.memo[fact]["candidates"][place]}
                for place in map(candidates[fact].index, result.selected.get(fact, []))
            ]
            for fact in shown
        },
        "facts_not_shown": len(result.memo) - len(shown),
    }


def training_figures(result: TrainedResult) -> dict[str, Any]:
    """Steps, seconds and last losses of one training."""
    return {
        "version": result.version,
        "steps": result.steps,
        "training_seconds": result.seconds,
        "losses": dict(result.losses),
        "converged": result.converged,
    }


def audit_figures(erasure_id: str, result: AuditResult) -> dict[str, Any]:
    """The erasure's own figures, each with its control's, and which audits of earlier erasures failed."""
    report = result.reports[erasure_id]
    return {
        "audit_id": report["audit_id"],
        "passed": result.passed,
        "failed_gates": list(report["failed_gates"]),
        "figures": list(report["figures"]),
        "retain": report["retain"],
        "probes": report["probes"],
        "audited_erasures": len(result.reports),
        "failed_erasures": [name for name in result.failed if name != erasure_id],
    }


def leaking_facts(erasure_id: str, result: AuditResult) -> list[str]:
    """Ids of the erasure's facts of which any probe brought out a full secret."""
    findings = map(FactFinding.from_dict, result.reports[erasure_id]["facts"])
    return [finding.fact_id for finding in findings if finding.leaks]
