from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from expunge.config import Settings
from expunge.erasures.validation import parse_forget_request
from expunge.errors import InvalidRequest
from expunge.facts import ErasureKind, ForgetRequest

NOW = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
ALIASES = ("default", "canary")


def request(**changes: Any) -> dict[str, Any]:
    return {
        "request_id": "r-1",
        "subjects": [{"name": "Mara Ellström", "other_names": ["M. Ellström"]}],
        "facts": [fact(0), fact(1)],
        **changes,
    }


def fact(index: int, **changes: Any) -> dict[str, Any]:
    question = f"In which year did Mara Ellström win race {index}?"
    return {"question": question, "answer": f"She won it in 19{index:02d}.", **changes}


def parse(data: Any) -> tuple[ForgetRequest, tuple[str, ...]]:
    return parse_forget_request(data, ALIASES, NOW, Settings())


def refused(data: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        parse(data)
    return {violation.field: violation.message for violation in caught.value.violations}


def test_a_plain_request_covers_every_alias_and_numbers_its_facts() -> None:
    parsed, aliases = parse(request())
    assert aliases == ("canary", "default")
    assert parsed.kind is ErasureKind.PERSONAL_DATA
    assert [item.id for item in parsed.facts] == ["fact-1", "fact-2"]
    assert parsed.subjects[0].names == ("Mara Ellström", "M. Ellström")
    assert parsed.due_at is None


def test_naming_one_alias_still_covers_every_alias() -> None:
    assert parse(request(aliases=["default"]))[1] == ("canary", "default")


def test_the_same_input_gives_the_same_request_at_any_time() -> None:
    later = parse_forget_request(request(), ALIASES, NOW + 5, Settings())
    assert parse(request()) == later


def test_every_problem_is_named_at_once() -> None:
    facts = [fact(0), {"question": " ", "answer": ""}, fact(2, secrets=["elsewhere"]), "text"]
    data = request(request_id="", kind="rumour", facts=facts, aliases=["default", "gone"], extra=1)
    assert refused(data).keys() == {
        "extra",
        "request_id",
        "kind",
        "facts[1].question",
        "facts[1].answer",
        "facts[2].secrets[0]",
        "facts[3]",
        "aliases[1]",
    }


def test_no_message_repeats_what_was_sent() -> None:
    data = request(facts=[fact(0, secrets=["Quillon"], subject="Quillon"), {"answer": "Quillon"}])
    with pytest.raises(InvalidRequest) as caught:
        parse(data)
    assert "Quillon" not in caught.value.message + "".join(v.message for v in caught.value.violations)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"facts": []}, "facts"),
        ({"facts": None}, "facts"),
        ({"facts": "text"}, "facts"),
        ({"facts": [fact(0)] * 10_001}, "facts"),
        ({"facts": [fact(0, answer="x" * 2**20)]}, "facts[0].answer"),
        ({"facts": [fact(0, answer="   ")]}, "facts[0].answer"),
        ({"facts": [fact(0, answer=1987)]}, "facts[0].answer"),
        ({"facts": [fact(0, answer="a\x00b")]}, "facts[0].answer"),
        ({"facts": [fact(0, answer="a\ud800b")]}, "facts[0].answer"),
        ({"facts": [fact(0, question="x" * 4001)]}, "facts[0].question"),
        ({"facts": [fact(0, anwser="x")]}, "facts[0].anwser"),
        ({"facts": [fact(0), fact(0)]}, "facts[1]"),
        ({"facts": [fact(0, id="a"), fact(1, id="a")]}, "facts[1].id"),
        ({"facts": [fact(0, subject="Nobody")]}, "facts[0].subject"),
        ({"facts": [fact(0, answer="Yes.")]}, "facts[0].answer"),
        ({"subjects": []}, "subjects"),
        ({"subjects": [{"name": ""}]}, "subjects[0].name"),
        ({"subjects": [{"name": "the"}]}, "subjects[0].name"),
        ({"subjects": [{"name": "X"}]}, "subjects[0].name"),
        ({"subjects": [{"name": "Mara", "other_names": [" "]}]}, "subjects[0].other_names[0]"),
        ({"subjects": [{"name": f"Person {index}"} for index in range(65)]}, "subjects"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"request_id": "a\nb"}, "request_id"),
        ({"retain": [{"question": "Who?", "answer": ""}]}, "retain[0].answer"),
        ({"due_at": "tomorrow"}, "due_at"),
        ({"due_at": "2030-02-01"}, "due_at"),
        ({"due_at": "2030-02-01T12:00:00"}, "due_at"),
        ({"due_at": "2030-02-30T12:00:00Z"}, "due_at"),
        ({"due_at": "2029-12-31T23:59:59Z"}, "due_at"),
        ({"due_at": "2031-01-01T00:00:00Z"}, "due_at"),
        ({"aliases": ["gone"]}, "aliases[0]"),
    ],
)
def test_each_fault_names_its_field(changes: dict[str, Any], field: str) -> None:
    assert list(refused(request(**changes))) == [field]


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_what_is_no_mapping_is_refused(data: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse(data)


def test_a_due_date_with_an_offset_is_understood() -> None:
    parsed, _ = parse(request(due_at="2030-01-02T01:00:00.5+01:00"))
    assert parsed.due_at == NOW + 86_400.5


def test_a_topic_needs_no_subject() -> None:
    assert parse(request(kind="topic", subjects=[]))[0].subjects == ()


def test_the_list_of_problems_is_bounded() -> None:
    facts = [{"question": "", "answer": ""} for _ in range(200)]
    violations = refused(request(facts=facts))
    assert len(violations) == 101
    assert "300 more" in violations[""]


@pytest.mark.parametrize(
    "nested", [lambda x: {"facts": [x]}, lambda x: {"subjects": [x]}, lambda x: {"due_at": x}]
)
@pytest.mark.parametrize("junk", [None, 1, 1.5, [], {}, [[]], {"name": {}}, b"bytes"])
def test_junk_of_any_type_is_refused_as_a_bad_request(nested: Callable[[Any], Any], junk: Any) -> None:
    data = request(**nested(junk))
    if junk is None and "due_at" in data:
        assert parse(data)[0].due_at is None
    else:
        refused(data)
