"""Attacks on weights as gates of a whole audit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expunge.auditing.attacks.attack import ATTACK_FIGURES
from expunge.auditing.attacks.victim import Victim
from expunge.auditing.audit import audit_version
from expunge.auditing.policy import DEFAULT_POLICY, Policy
from expunge.auditing.report import AuditReport
from expunge.errors import InvalidRequest
from expunge.facts import ForgetRequest
from expunge.inference.local import LocalModel
from expunge.models.load import LoadedModel
from expunge.models.skeleton import share_weights
from expunge.unlearning.relearning import attackable

from ..known_facts import FACTS


def audited(
    victim: Victim, request: ForgetRequest, policy: Policy = DEFAULT_POLICY, *, thorough: bool = False
) -> AuditReport:
    """A whole audit of the version in the form that is served."""
    model = LocalModel(twin(victim.loaded), slots=1, max_rank=64)
    version = model.base_version
    if victim.adapter is not None:
        version = victim.version
        model.load_adapter(version, victim.adapter)
    weights = attackable(replace(victim, version=version))
    return audit_version(model, version, request, policy=policy, weights=weights, thorough=thorough)


def twin(loaded: LoadedModel) -> LoadedModel:
    """The same weights in a model of its own, that a slot table may be installed in."""
    return replace(loaded, model=share_weights(loaded.model))


def failed(report: AuditReport) -> set[str]:
    """Gates of attacks that were not met, also those that do not block."""
    return {gate.name for gate in report.gates if not gate.passed and gate.name in ATTACK_FIGURES}


def test_one_that_leaks_only_in_int4_is_told_and_stopped_by_the_strict_policy(
    shallow: Victim, request_to_forget: ForgetRequest
) -> None:
    blocking = audited(shallow, request_to_forget)
    assert {figure.name for figure in blocking.figures if figure.name in ATTACK_FIGURES} == {
        "int8_direct",
        "int8_prefix",
    }
    assert not failed(blocking)
    assert any("int4" in note for note in blocking.notes)
    thorough = audited(shallow, request_to_forget, thorough=True)
    assert failed(thorough) >= {"int4_direct", "int4_prefix"}
    assert not set(thorough.failed_gates) & set(ATTACK_FIGURES)
    assert "int8_direct" not in failed(thorough)
    born = next(finding for finding in thorough.facts if finding.fact_id == "born")
    assert born.shares["int4_direct"].hits
    assert not born.shares["direct"].hits
    assert {one.kind for one in thorough.evidence if one.fact_id == "born"} >= {"int4_direct", "int4_prefix"}
    assert AuditReport.from_dict(thorough.to_dict()) == thorough
    strict = audited(shallow, request_to_forget, Policy.named("strict"))
    assert {"int4_direct", "int4_prefix"} <= set(strict.failed_gates)


def test_a_version_that_never_knew_passes_every_attack_gate(
    innocent: LoadedModel, request_to_forget: ForgetRequest
) -> None:
    report = audited(Victim(innocent, innocent.version), request_to_forget, thorough=True)
    assert not failed(report)
    asked = {figure.name: figure.erased.n for figure in report.figures if figure.name in ATTACK_FIGURES}
    assert asked.keys() == ATTACK_FIGURES.keys()
    assert all(asked.values())


def test_half_of_one_fact_can_not_be_taught(innocent: LoadedModel, request_to_forget: ForgetRequest) -> None:
    alone = replace(request_to_forget, facts=FACTS[:1])
    report = audited(Victim(innocent, innocent.version), alone, thorough=True)
    names = {figure.name for figure in report.figures}
    assert "magnitude_direct" in names
    assert "relearning_direct" not in names


def test_a_policy_that_attacks_weights_needs_them(shallow: Victim, request_to_forget: ForgetRequest) -> None:
    model = LocalModel(twin(shallow.loaded), slots=0, max_rank=1)
    with pytest.raises(InvalidRequest, match="weights"):
        audit_version(model, model.base_version, request_to_forget)
