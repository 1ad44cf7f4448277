"""Reading the files given to `expunge forget` and `expunge finetune`: YAML, JSON or JSON lines, by ending.

YAML and JSON hold one mapping, for an erasure as `validation.py` describes it. JSON lines hold one fact or
example a line; the first line may instead hold the other fields (request_id, kind, subjects, ...).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from expunge.errors import InvalidRequest

MAX_FILE_BYTES = 64 * 2**20


def read_request_file(path: Path, items: str = "facts") -> dict[str, object]:
    """The request in `path` as a plain mapping; for an erasure `parse_forget_request` checks its fields.

    `items` is the field that the lines of a JSON-lines file make up.

    Raises:
        InvalidRequest: the file is missing, too large, not UTF-8, of another ending, or not of its format;
            the field is `<file name>:<line>`.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise InvalidRequest.of(path.name, f"ends in none of {', '.join(_PARSERS)}; rename or convert it")
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InvalidRequest.of(path.name, f"has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidRequest.of(path.name, f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _at(path, line, "is not UTF-8 text") from None
    return dict(parse(path, text, items))


def _at(path: Path, line: int, message: str) -> InvalidRequest:
    return InvalidRequest.of(f"{path.name}:{line}", message)


def _parse_yaml(path: Path, text: str, items: str) -> Mapping[str, object]:
    try:
        content = yaml.load(text, Loader=_TextLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _at(
            path, mark.line + 1 if mark else 1, f"is not YAML: {error.problem or 'unreadable'}"
        ) from None
    except yaml.YAMLError:
        raise _at(path, 1, "is not YAML: it holds characters that YAML forbids") from None
    return _mapping(path, 1, content)


def _parse_json(path: Path, text: str, items: str) -> Mapping[str, object]:
    return _mapping(path, 1, _json(path, text, 1))


def _parse_json_lines(path: Path, text: str, items: str) -> Mapping[str, object]:
    content: dict[str, object] = {}
    found: list[object] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        item = _mapping(path, number, _json(path, line, number))
        if "question" in item or "answer" in item:
            found.append(item)
        elif content or found:
            raise _at(path, number, "has neither question nor answer; only the first line may differ")
        else:
            content.update(item)
    if found and items in content:
        raise _at(path, 1, f"holds {items!r}, but the other lines are {items} too; keep them in one place")
    return content | {items: found} if found else content


def _json(path: Path, text: str, first_line: int) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _at(path, first_line + error.lineno - 1, f"is not JSON: {error.msg}") from None
    except _DuplicateKey as error:
        raise _at(path, first_line, f"holds the key {error} twice in one mapping; keep one") from None
    except RecursionError:
        raise _at(path, first_line, "is nested too deeply") from None


def _mapping(path: Path, line: int, content: object) -> Mapping[str, object]:
    if not isinstance(content, Mapping):
        raise _at(path, line, "must hold a mapping of fields such as subjects and facts")
    return content


class _DuplicateKey(ValueError):
    pass


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(repr(next(key for key in keys if keys.count(key) > 1)[:64]))
    return mapping


class _TextLoader(yaml.BaseLoader):
    """Every scalar stays text (`answer: 1987` is an answer, not a number), and no key may come twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in seen:
                problem = f"the key {key.value[:64]!r} comes twice in one mapping"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_PARSERS: dict[str, Callable[[Path, str, str], Mapping[str, object]]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": _parse_json,
    ".jsonl": _parse_json_lines,
}
