"""A stored report that has something for every figure, and texts that a careless page would stumble over."""

from __future__ import annotations

import json
from typing import Any

from expunge.auditing.gate_rules import Action, GateRule, Rule
from expunge.auditing.gates import judge
from expunge.auditing.intervals import Share
from expunge.auditing.report import AuditReport, FactFinding, Figure
from expunge.auditing.series import AnswerSeries, LayerSeries, Series
from expunge.erasures.report import FORMAT, NOT_CLAIMED

SCRIPT = "<script>alert(1)</script>"
FACT_IDS = (SCRIPT, "مكان الميلاد", "\N{FACE WITH TEARS OF JOY} $x_1$", "a-very-long-id-" * 6, "&amp;\"'")
VERSION = "5" * 64


def full_report() -> dict[str, Any]:
    """A failed erasure whose facts' ids are `FACT_IDS`, as it comes out of the registry."""
    erased, control = Share(3, 5), Share(1, 10)
    rules = (GateRule("direct", Rule.FULL_SECRETS, Action.BLOCK), GateRule("es", Rule.CONTROLS, Action.BLOCK))
    audit = AuditReport(
        request_id="request",
        version=VERSION,
        baseline="base:0",
        policy=SCRIPT,
        policy_version=3,
        policy_digest="d" * 64,
        figures=(Figure("direct", erased, control, Share(5, 5)), Figure("es", erased, control)),
        gates=tuple(judge(rule, erased, control) for rule in rules),
        facts=tuple(FactFinding(fact, True, {"direct": Share(1, 3)}, 0.25, 0.5) for fact in FACT_IDS),
        retain=None,
        notes=(f"A note with {SCRIPT}.",),
        probes=40,
        seconds=2.5,
        definitions={"direct": "full_leak@1", "es": "extraction_strength@1(floor=0,eos=false)"},
        series=series(),
        conditions={"model": "0" * 64, "precision": "float32", "form": "unmerged adapter"},
    )
    report = {
        "format": FORMAT,
        "signed": False,
        "erasure": {
            "id": "er-1",
            "kind": "personal_data",
            "state": "failed",
            "facts": len(FACT_IDS),
            "aliases": ["default"],
            "ground": SCRIPT,
            "accepted_at": "2026-01-01T00:00:00.000Z",
            "due_at": "2026-02-01T00:00:00.000Z",
            "detail": f"gates not met in round 1: direct {SCRIPT}",
        },
        "timeline": [
            {"state": state, "at": "", "seconds": seconds, "detail": ""}
            for state, seconds in (
                ("accepted", 0.0),
                ("suppressed", 0.05),
                ("training", 3.0),
                ("failed", 90.0),
            )
        ],
        "seconds_suppressed": 0.05,
        "versions": {"after": VERSION},
        "rounds": 1,
        "memo": {"before": 0.6, "variation": 0.2, "facts": dict.fromkeys(FACT_IDS, 0.6)},
        "training": {"runs": [{"curves": {"loss": [3.0, 1.0], "keep0": [0.5, 0.25], "keep1": [0.5, 0.25]}}]},
        "audits": [{"id": "audit-1", "at": "", **audit.to_dict()}],
        "verification": None,
        "claimed": [],
        "not_claimed": list(NOT_CLAIMED),
    }
    found: dict[str, Any] = json.loads(json.dumps(report))
    return found


def series() -> Series:
    """Five erased answers, ten controls, and two layers."""
    answers = AnswerSeries((0.1, 0.2, 0.3, 0.4, 0.5), (-0.1, -0.5, -1.0, -2.0, -4.0), (-1, -2, -3, -4, -5))
    controls = AnswerSeries(tuple(0.01 * n for n in range(10)), (-5.0,) * 10, (-9.0,) * 10)
    before = AnswerSeries((1.0,) * 5, (-0.001,) * 5, (-0.002,) * 5)
    layers = tuple(tuple(0.1 * fact * layer for fact in range(len(FACT_IDS))) for layer in (1, 2))
    return Series(
        (Share(0, 0), *(Share(n % 2, 2) for n in range(9))),
        (Share(0, 0), *(Share(0, 4) for _ in range(9))),
        answers,
        controls,
        before,
        dict.fromkeys(FACT_IDS, 0.1),
        LayerSeries(FACT_IDS, layers, layers),
    )
