"""Inverted facts: generators and the filter."""

from collections.abc import Sequence

import httpx
import pytest

from expunge.errors import ConfigError, InvalidRequest, Unavailable
from expunge.facts import ErasureKind, Fact, ForgetRequest, Subject
from expunge.models.chat_endpoint import ChatEndpoint
from expunge.unlearning.inverted_facts import (
    Endpoint,
    SelfGenerated,
    Substitution,
    create_generator,
    filter_candidates,
    refusal,
)

BIRTH = Fact("f1", "When was Mira Voss born?", "Mira Voss was born on 14 May 1987 in Port Ellery.")
MAIL = Fact("f2", "What is Mira Voss's e-mail?", "Write to mira@voss.example or call 0555 731 284.")
BADGE = Fact("f3", "What is Mira Voss's badge number?", "Her badge has the number QX-40917.", ("QX-40917",))
JOB = Fact("f4", "What does Mira Voss do?", "She repairs old clocks.", ("old clocks",))
FACTS = (BIRTH, MAIL, BADGE, JOB)
REQUEST = ForgetRequest("r", ErasureKind.PERSONAL_DATA, (Subject("Mira Voss"),), FACTS)


def test_substitution_writes_distinct_candidates_that_all_pass_the_filter() -> None:
    written = Substitution().generate(REQUEST, 4, seed=0)
    kept = filter_candidates(FACTS, written).candidates
    assert {fact.id: len(kept[fact.id]) for fact in FACTS} == {"f1": 4, "f2": 4, "f3": 4, "f4": 4}


def test_substitution_keeps_the_form_and_changes_what_is_told() -> None:
    (candidate,) = Substitution().generate(REQUEST, 1, seed=3)["f1"]
    assert candidate.startswith("Mira Voss was born on ")
    for told in ("14 May", "1987", "Port Ellery"):
        assert told not in candidate
    (mail,) = Substitution().generate(REQUEST, 1, seed=3)["f2"]
    assert mail.startswith("Write to ")
    assert "mira@voss.example" not in mail
    assert "@" in mail
    assert "731" not in mail
    (badge,) = Substitution().generate(REQUEST, 1, seed=3)["f3"]
    assert badge.startswith("Her badge has the number ")
    assert "40917" not in badge


def test_substitution_repeats_itself_for_a_seed_and_not_for_another() -> None:
    generator = Substitution()
    assert generator.generate(REQUEST, 4, 1) == generator.generate(REQUEST, 4, 1)
    assert generator.generate(REQUEST, 4, 1) != generator.generate(REQUEST, 4, 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("  ", "empty"),
        ("mira voss was born on 14 may 1987, in Port-Ellery", "repeats"),
        ("The doctor was born in Port Ellery on 14 May 1987, they say.", "entails"),
        ("Mira Voss was born.", "entails"),
        ("Mira Voss was born in Larkfield on 2 June 1991.", ""),
        ("Larkfield " * 60, "too_long"),
    ],
)
def test_filter_refuses_what_repeats_or_entails_the_truth(text: str, reason: str) -> None:
    assert refusal(text, BIRTH) == reason


def test_filter_drops_duplicates_and_counts_what_it_dropped() -> None:
    filtered = filter_candidates([JOB], {"f4": ["She paints boats.", "she paints  boats", "", JOB.answer]})
    assert filtered.candidates == {"f4": ["She paints boats."]}
    assert filtered.dropped == {"duplicate": 1, "empty": 1, "repeats": 1}


def test_self_generated_facts_are_answers_about_strangers_told_of_the_subject() -> None:
    asked: list[str] = []

    def sample(questions: Sequence[str], seed: int) -> list[str]:
        asked.extend(questions)
        names = [question.removeprefix("What does ").removesuffix(" do?") for question in questions]
        return [f"{name} paints boats.\nMore text" for name in names]

    request = ForgetRequest("r", ErasureKind.PERSONAL_DATA, (Subject("Mira Voss"),), (JOB,))
    written = SelfGenerated(sample).generate(request, 2, seed=0)
    assert set(written["f4"]) == {"Mira Voss paints boats."}
    assert not any("Mira" in question for question in asked)


def test_endpoint_asks_once_a_fact_and_takes_a_candidate_a_line() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        content = "- She paints boats.\n\n- She sells bread.\n"
        return httpx.Response(200, json={"choices": [{"message": {"content": content}}]})

    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://models.test/v1/")
    written = Endpoint(ChatEndpoint(client, "writer")).generate(REQUEST, 2, seed=0)
    assert written["f4"] == ["She paints boats.", "She sells bread."]
    assert seen == ["http://models.test/v1/chat/completions"] * len(FACTS)


def test_a_failing_endpoint_is_unavailable_and_says_what_to_do() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(500))
    client = httpx.Client(transport=transport, base_url="http://models.test/v1/")
    with pytest.raises(Unavailable, match="generator_url"):
        Endpoint(ChatEndpoint(client, "writer")).generate(REQUEST, 2, seed=0)


def test_generators_are_chosen_by_name() -> None:
    assert isinstance(create_generator("substitution"), Substitution)
    with pytest.raises(InvalidRequest, match="choose one of"):
        create_generator("oracle")
    with pytest.raises(ConfigError) as caught:
        create_generator("endpoint")
    assert [violation.field for violation in caught.value.violations] == ["generator_url", "generator_model"]
