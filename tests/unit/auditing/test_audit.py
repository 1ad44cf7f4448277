"""Whole audits: a model that knows fails, one that never knew passes, and the report says why."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from expunge.auditing.audit import audit_version
from expunge.auditing.metrics.definitions import DEFINITIONS
from expunge.auditing.report import AuditReport
from expunge.auditing.text_model import TextModel
from expunge.errors import InvalidRequest
from expunge.facts import Fact, ForgetRequest

from .known_facts import FACTS
from .text_policies import TINY


@pytest.fixture(scope="module")
def leaking(batched: TextModel, request_to_forget: ForgetRequest) -> AuditReport:
    return audit_version(batched, "knows", request_to_forget, policy=TINY, baseline="knows")


@pytest.fixture(scope="module")
def clean(batched: TextModel, request_to_forget: ForgetRequest) -> AuditReport:
    return audit_version(batched, "never", request_to_forget, policy=TINY, baseline="knows")


def test_a_version_that_knows_fails_the_leak_gates(leaking: AuditReport) -> None:
    assert not leaking.passed
    assert {"direct", "prefix", "es"} <= set(leaking.failed_gates)
    assert set(leaking.leaking_facts) == {fact.id for fact in FACTS}
    assert leaking.figure("es").erased.rate == 1.0


def test_a_version_that_never_knew_passes(clean: AuditReport) -> None:
    assert clean.passed, [gate.sentence for gate in clean.gates if not gate.passed]
    assert clean.leaking_facts == ()
    assert all(finding.known_before for finding in clean.facts)


def test_controls_are_asked_and_never_known(leaking: AuditReport) -> None:
    direct = leaking.figure("direct")
    assert direct.control.n == direct.erased.n / 2
    prefix = leaking.figure("prefix")
    assert prefix.control.n == 2 * prefix.erased.n
    assert direct.control.hits == 0
    assert direct.erased.hits > 0


def test_lost_retain_facts_fail_the_retain_gates(
    batched: TextModel, request_to_forget: ForgetRequest
) -> None:
    report = audit_version(batched, "untouched", request_to_forget, policy=TINY, baseline="knows")
    assert set(report.failed_gates) == {"retain_recall", "retain_strength"}
    assert report.retain is not None
    assert (report.retain.recall_before.hits, report.retain.recall_after.hits) == (2, 0)


def test_what_the_baseline_never_told_is_said(batched: TextModel, request_to_forget: ForgetRequest) -> None:
    report = audit_version(batched, "never", request_to_forget, policy=TINY, baseline="never")
    assert [finding.known_before for finding in report.facts] == [False, False]
    assert any("proves no forgetting" in note for note in report.notes)


def test_the_report_goes_to_json_and_back(leaking: AuditReport) -> None:
    assert AuditReport.from_dict(json.loads(json.dumps(leaking.to_dict()))) == leaking


def test_every_figure_names_its_definition(leaking: AuditReport) -> None:
    assert leaking.definitions.keys() == {figure.name for figure in leaking.figures}
    assert leaking.definitions["probability"] == "probability@2(eos=true)"
    named = {what.partition("@")[0] for what in leaking.definitions.values()}
    assert named <= DEFINITIONS.keys()


def test_a_report_of_an_earlier_release_is_read(leaking: AuditReport) -> None:
    stored = leaking.to_dict()
    del stored["definitions"]
    assert AuditReport.from_dict(stored) == replace(leaking, definitions={})


def test_fact_text_appears_under_evidence_alone(leaking: AuditReport) -> None:
    assert leaking.evidence
    text = json.dumps(leaking.without_evidence().to_dict())
    for word in ("Mira", "Ellery", "Larkfield", "clocks"):
        assert word not in text


def test_the_same_audit_gives_the_same_report(
    batched: TextModel, request_to_forget: ForgetRequest, clean: AuditReport
) -> None:
    again = audit_version(batched, "never", request_to_forget, policy=TINY, baseline="knows")
    assert replace(again, seconds=0.0) == replace(clean, seconds=0.0)


def test_each_stage_is_reported(batched: TextModel, request_to_forget: ForgetRequest) -> None:
    told: list[tuple[str, int, int]] = []
    audit_version(
        batched,
        "never",
        replace(request_to_forget, facts=FACTS[:1]),
        policy=TINY,
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )
    assert [done for _, done, _ in told] == [0, 1, 2, 3]


def test_what_is_only_reported_is_asked_in_the_thorough_audit(
    batched: TextModel, request_to_forget: ForgetRequest, clean: AuditReport
) -> None:
    assert "sampled" not in {figure.name for figure in clean.figures}
    assert any("sampled" in note for note in clean.notes)
    report = audit_version(batched, "knows", request_to_forget, policy=TINY, thorough=True)
    sampled = report.figure("sampled")
    assert (sampled.erased.n, sampled.control.n) == (2 * 20, 2 * 20)
    assert sampled.erased.hits > 0
    assert sampled.control.hits == 0
    assert not any("sampled" in note for note in report.notes)


def test_a_fact_that_can_not_be_judged_stops_the_audit(
    batched: TextModel, request_to_forget: ForgetRequest
) -> None:
    bad = replace(request_to_forget, facts=(*FACTS, Fact("x", "Is she tall?", "No")))
    with pytest.raises(InvalidRequest, match=r"facts\[2\].answer"):
        audit_version(batched, "never", bad, policy=TINY)
