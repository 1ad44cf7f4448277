from pathlib import Path

import pytest

from expunge.erasures.request_file import read_request_file
from expunge.errors import InvalidRequest


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def field_of_refusal(path: Path) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_request_file(path)
    (violation,) = caught.value.violations
    return violation.field


def test_yaml_values_stay_text(tmp_path: Path) -> None:
    facts = "facts:\n- question: When?\n  answer: 1987\n- question: Is it?\n  answer: no\n"
    text = f"due_at: 2030-01-01T00:00:00Z\n{facts}"
    content = read_request_file(written(tmp_path, "request.yaml", text))
    assert content == {
        "due_at": "2030-01-01T00:00:00Z",
        "facts": [{"question": "When?", "answer": "1987"}, {"question": "Is it?", "answer": "no"}],
    }


def test_json_lines_hold_a_header_and_facts(tmp_path: Path) -> None:
    text = '{"request_id": "r"}\n\n{"question": "Q1?", "answer": "A1"}\n{"question": "Q2?", "answer": "A2"}\n'
    content = read_request_file(written(tmp_path, "request.jsonl", text))
    assert content == {
        "request_id": "r",
        "facts": [{"question": "Q1?", "answer": "A1"}, {"question": "Q2?", "answer": "A2"}],
    }


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert read_request_file(written(tmp_path, "r.json", b'\xef\xbb\xbf{"kind": "topic"}')) == {
        "kind": "topic"
    }


@pytest.mark.parametrize(
    ("name", "text", "field"),
    [
        ("r.json", '{\n"kind": "topic",\n}', "r.json:3"),
        ("r.json", '{"kind": "a", "kind": "b"}', "r.json:1"),
        ("r.json", "[]", "r.json:1"),
        ("r.json", "[" * 200_000, "r.json:1"),
        ("r.jsonl", '{"kind": "topic"}\n{"question": "Q?"\n', "r.jsonl:2"),
        ("r.jsonl", '{"question": "Q?"}\n{"kind": "topic"}', "r.jsonl:2"),
        ("r.jsonl", '{"facts": []}\n{"question": "Q?"}', "r.jsonl:1"),
        ("r.yaml", "kind: topic\nfacts: [\n", "r.yaml:3"),
        ("r.yaml", "kind: topic\nkind: passage\n", "r.yaml:2"),
        ("r.yaml", "- topic", "r.yaml:1"),
        ("r.yaml", "? [a]\n: b", "r.yaml:1"),
        ("r.yaml", b"kind: topic\nground: \xff\n", "r.yaml:2"),
        ("r.txt", "kind: topic", "r.txt"),
    ],
)
def test_a_fault_names_file_and_line(tmp_path: Path, name: str, text: str | bytes, field: str) -> None:
    assert field_of_refusal(written(tmp_path, name, text)) == field


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert field_of_refusal(tmp_path / "none.yaml") == "none.yaml"
