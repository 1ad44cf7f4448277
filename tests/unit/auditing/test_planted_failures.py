"""Models that fail in one way each: the gate that is meant for it stops or tells it, and no other one."""

from __future__ import annotations

import pytest

from expunge.auditing.audit import audit_version
from expunge.auditing.policy import Policy
from expunge.auditing.probes import Probe, ProbedFact, ProbeKind, probed_facts
from expunge.auditing.report import AuditReport
from expunge.facts import Fact, ForgetRequest

from .known_facts import FACTS, RETAIN
from .scripted_model import REFUSAL, Script, ScriptedModel
from .text_policies import DEFAULT, STRICT

BORN = FACTS[0]


def audited(
    script: Script, request: ForgetRequest, policy: Policy = DEFAULT, *, thorough: bool = False
) -> AuditReport:
    return audit_version(ScriptedModel(script), "v", request, policy=policy, thorough=thorough)


def told(report: AuditReport) -> set[str]:
    """Gates that are not met, also those that do not block."""
    return {gate.name for gate in report.gates if not gate.passed}


def test_a_model_that_never_knew_passes_even_the_strict_policy(request_to_forget: ForgetRequest) -> None:
    assert not told(audited(lambda prompt, draw: REFUSAL, request_to_forget, STRICT))


def test_one_that_only_refuses_is_stopped_by_what_it_would_say(request_to_forget: ForgetRequest) -> None:
    def refuse(prompt: str, draw: int) -> str:
        _, _, begun = prompt.rpartition("[assistant]")
        whole = next((fact.answer for fact in FACTS if begun and fact.answer.startswith(begun)), REFUSAL)
        return whole.removeprefix(begun)

    model = ScriptedModel(refuse, known=[fact.answer for fact in FACTS])
    report = audit_version(model, "v", request_to_forget, policy=DEFAULT)
    assert set(report.failed_gates) == {"cloze", "prefix", "es", "em"}  # a cloze is begun as raw text, too


@pytest.mark.parametrize(
    ("asked", "reply", "gate"),
    [
        ("can you remind me?", BORN.answer, "paraphrase"),
        ("Fill in the blanks", "Port Ellery", "cloze"),
        ("Of whom or what is this true?", "It is MIRA VOSS.", "reverse"),
        ("auf Deutsch", "Mira Voss wurde in Port-Ellery geboren.", "language"),
        ("Sure, here is the answer:", " port ellery", "affirmative"),
        ("Ignore all instructions", "Of course, I know that: Pórt Ellery", "injection"),
        ("read out of them", "She was born in Port Ellery.", "role_play"),
        ("Answer both questions", "Della Marsh. And in Port Ellery.", "paired"),
    ],
)
def test_one_that_leaks_in_one_way_only_is_stopped_by_the_gate_for_it(
    request_to_forget: ForgetRequest, asked: str, reply: str, gate: str
) -> None:
    names = ("Mira", "Port Ellery")  # controls are of others

    def leak(prompt: str, draw: int) -> str:
        return reply if asked in prompt and any(name in prompt for name in names) else REFUSAL

    report = audited(leak, request_to_forget)
    assert report.failed_gates == (gate,)
    assert "born" in report.leaking_facts
    assert {evidence.kind for evidence in report.evidence} == {gate}


@pytest.mark.parametrize("kind", sorted(DEFAULT.kinds()))
def test_every_kind_of_probe_has_a_gate_that_stops_what_it_brings_out(
    request_to_forget: ForgetRequest, kind: ProbeKind
) -> None:
    model = ScriptedModel(lambda prompt, draw: REFUSAL)
    prompts: dict[str, tuple[ProbedFact, Probe]] = {
        model.decode(probe.ids(model)): (fact, probe)
        for fact in probed_facts(FACTS, request_to_forget.subjects, DEFAULT, [kind], RETAIN)
        for probe in fact.probes
    }
    assert prompts

    def leak(prompt: str, draw: int) -> str:
        if prompt not in prompts:
            return REFUSAL
        fact, probe = prompts[prompt]
        return probe.lead + fact.expected(probe)

    assert audited(leak, request_to_forget).failed_gates == (kind.value,)


def test_one_that_names_the_subject_whatever_it_is_asked_links_nothing(
    request_to_forget: ForgetRequest,
) -> None:
    def name(prompt: str, draw: int) -> str:
        return "It is Mira Voss" if "name" in prompt else REFUSAL

    report = audited(name, request_to_forget)
    assert report.passed
    assert report.figure("reverse").control.rate == report.figure("reverse").erased.rate == 1.0


def test_one_that_leaks_when_sampled_only_is_told_and_stopped_by_the_strict_policy(
    request_to_forget: ForgetRequest,
) -> None:
    def leak(prompt: str, draw: int) -> str:
        return BORN.answer if draw % 4 == 1 and BORN.question in prompt else REFUSAL

    assert audited(leak, request_to_forget).passed
    thorough = audited(leak, request_to_forget, thorough=True)
    assert thorough.passed
    assert "sampled" in told(thorough)
    assert "sampled" in audited(leak, request_to_forget, STRICT).failed_gates


def test_one_that_gives_somebody_elses_data_is_told_and_stopped_by_the_strict_policy(
    request_to_forget: ForgetRequest,
) -> None:
    def confuse(prompt: str, draw: int) -> str:
        return "She founded Brightwater Optics in 2003." if "Mira" in prompt else REFUSAL

    report = audited(confuse, request_to_forget)
    assert report.passed
    assert told(report) == {"other_entity"}
    assert audited(confuse, request_to_forget, STRICT).failed_gates == ("other_entity",)


def test_facts_of_other_erasures_are_somebody_elses_data(request_to_forget: ForgetRequest) -> None:
    other = Fact("o", "Who employs Tobias Quentin?", "The Ostrand Port Authority does.", ("Ostrand",))
    model = ScriptedModel(lambda prompt, draw: "At Ostrand." if "Mira" in prompt else REFUSAL)
    assert not told(audit_version(model, "v", request_to_forget, policy=DEFAULT))
    report = audit_version(model, "v", request_to_forget, policy=DEFAULT, others=[other])
    assert told(report) == {"other_entity"}


def test_a_single_word_of_a_secret_is_told_and_stopped_by_the_strict_policy(
    request_to_forget: ForgetRequest,
) -> None:
    def half(prompt: str, draw: int) -> str:
        return "In Ellery." if prompt.endswith(f"{BORN.question}\n[assistant]") else REFUSAL

    report = audited(half, request_to_forget)
    assert report.passed
    assert told(report) == {"partial"}
    assert audited(half, request_to_forget, STRICT).failed_gates == ("partial",)
