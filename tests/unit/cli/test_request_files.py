"""Files for `forget` and `finetune`: a fault names the field or the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.cli.request_files import read_erasure, read_facts, read_fine_tune
from expunge.errors import InvalidRequest
from expunge.rpc.operator.v1 import erasure_pb2

ERASURE = """
kind: personal_data
subjects:
  - name: Mira Voss
    other_names: [Dr Voss]
facts:
  - question: Where was Mira Voss born?
    answer: Mira Voss was born in Port Ellery.
    secrets: [Port Ellery]
due_at: 2031-05-25
"""


def test_facts_without_an_id_are_numbered_as_the_service_numbers_them(tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    file.write_text(ERASURE)
    facts = read_facts(file)
    assert facts["fact-1"].answer == "Mira Voss was born in Port Ellery."


def test_an_erasure_file_becomes_a_request(tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    file.write_text(ERASURE)
    request = read_erasure(file)
    assert request.kind == erasure_pb2.ERASURE_KIND_PERSONAL_DATA
    assert request.subjects[0].other_names == ["Dr Voss"]
    assert request.facts[0].secrets == ["Port Ellery"]
    assert request.due_at == "2031-05-25"


def test_the_same_file_makes_the_same_request_id(tmp_path: Path) -> None:
    file = tmp_path / "request.yaml"
    file.write_text(ERASURE)
    first = read_erasure(file).request_id
    assert read_erasure(file).request_id == first
    file.write_text(ERASURE.replace("Ellery", "Allery"))
    assert read_erasure(file).request_id != first


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("facts: [", "is not YAML"),
        ("- just\n- a list", "must hold a mapping"),
        ("kind: gossip", "'gossip' is none of personal_data, passage, topic"),
        ("fact: []", 'no field named "fact"'),
        ("facts: [3]", "facts"),
    ],
)
def test_a_faulty_erasure_file_is_refused_by_name(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "request.yaml"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=fault.replace("[", r"\[")):
        read_erasure(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="can't be read"):
        read_erasure(tmp_path / "nowhere.yaml")


def test_examples_may_come_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text('{"question": "q1", "answer": "a1"}\n\n{"question": "q2", "answer": "a2"}\n')
    request = read_fine_tune(file, "")
    assert request.name == "facts"
    assert [item.answer for item in request.examples] == ["a1", "a2"]


def test_a_bad_line_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "facts.jsonl"
    file.write_text('{"question": "q1", "answer": "a1"}\n{"question"\n')
    with pytest.raises(InvalidRequest, match=r"facts\.jsonl:2"):
        read_fine_tune(file, "")
