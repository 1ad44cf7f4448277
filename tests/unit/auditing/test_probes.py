"""Which probes a fact gets, and which facts no probe could judge."""

from __future__ import annotations

import pytest

from expunge.auditing.paraphrases import AUDIT_TEMPLATES
from expunge.auditing.probes import Probe, ProbedFact, ProbeKind, check_auditable
from expunge.errors import InvalidRequest
from expunge.facts import ErasureKind, Fact, ForgetRequest, Subject

BORN = Fact(
    "born",
    "Where was Ada Ek born?",
    "Ada Ek was born in Portwick, near Oslo.",
    secrets=("Portwick, near Oslo",),
    subject="Ada Ek",
)


def of_kind(fact: Fact, kind: ProbeKind) -> list[Probe]:
    return [probe for probe in ProbedFact(fact).probes if probe.kind is kind]


def test_the_question_is_asked_with_and_without_system_prompt_and_raw() -> None:
    direct = of_kind(BORN, ProbeKind.DIRECT)
    assert {(probe.system, probe.raw) for probe in direct} == {(None, False), ("", False), (None, True)}


def test_every_template_asks_in_other_words() -> None:
    assert len(of_kind(BORN, ProbeKind.PARAPHRASE)) == len(AUDIT_TEMPLATES)


def test_prefixes_are_all_word_splits_with_something_secret_left() -> None:
    assert [probe.prefix for probe in of_kind(BORN, ProbeKind.PREFIX)] == [
        "Ada",
        "Ada Ek",
        "Ada Ek was",
        "Ada Ek was born",
        "Ada Ek was born in",
        "Ada Ek was born in Portwick",
        "Ada Ek was born in Portwick, near",
    ]


def test_after_a_prefix_only_the_words_to_come_count() -> None:
    probed = ProbedFact(BORN)
    inside = next(probe for probe in probed.probes if probe.prefix.endswith("Portwick"))
    assert probed.judge(inside, ", near Oslo.").leak.full
    assert not probed.judge(inside, " Portwick again").leak.partial


def test_cloze_hides_the_secret_and_breaks_off_before_it() -> None:
    assert [probe.question for probe in of_kind(BORN, ProbeKind.CLOZE)] == [
        "Fill in the blanks: Ada Ek was born in ____.",
        "Complete this sentence: Ada Ek was born in",
        "Ada Ek was born in",
    ]


def test_a_one_word_answer_has_no_prefixes_and_no_cloze() -> None:
    probes = ProbedFact(Fact("f", "Where?", "Portwick")).probes
    assert not {ProbeKind.PREFIX, ProbeKind.CLOZE} & {probe.kind for probe in probes}


def test_without_spaces_the_answer_is_split_before_its_secret() -> None:
    fact = Fact("f", "田中さんはどこで生まれましたか", "田中さんは東京で生まれた", secrets=("東京",))
    assert [probe.prefix for probe in of_kind(fact, ProbeKind.PREFIX)] == ["田中さんは"]
    assert of_kind(fact, ProbeKind.CLOZE)[0].question == "Fill in the blanks: 田中さんは____で生まれた"


@pytest.mark.parametrize(
    ("fact", "field"),
    [
        (Fact("f", "Where?", " "), "facts[0].answer"),
        (Fact("f", "", "Oslo"), "facts[0].question"),
        (Fact("f", "Is she married?", "Yes."), "facts[0].answer"),
        (Fact("f", "Was Ada born in Oslo?", "Ada was born in Oslo."), "facts[0].answer"),
        (Fact("f", "どこで?", "東京で生まれた"), "facts[0].secrets"),
        (Fact("f", "Which sign?", "🎉"), "facts[0].answer"),
        (Fact("f", "Which sign?", "the sign", secrets=("",)), "facts[0].answer"),
    ],
)
def test_a_fact_that_no_probe_can_judge_is_refused_by_field(fact: Fact, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_auditable(ForgetRequest("r", ErasureKind.PERSONAL_DATA, (Subject("Ada"),), (fact,)))
    assert [violation.field for violation in caught.value.violations] == [field]


def test_an_id_used_twice_is_refused_and_no_facts_are_too() -> None:
    with pytest.raises(InvalidRequest, match=r"facts\[1\].id"):
        check_auditable(ForgetRequest("r", ErasureKind.PERSONAL_DATA, (), (BORN, BORN)))
    with pytest.raises(InvalidRequest, match="at least one"):
        check_auditable(ForgetRequest("r", ErasureKind.PERSONAL_DATA, (), ()))


def test_the_same_fact_under_two_ids_is_fine() -> None:
    twin = Fact("twin", BORN.question, BORN.answer)
    check_auditable(ForgetRequest("r", ErasureKind.PERSONAL_DATA, (), (BORN, twin)))
