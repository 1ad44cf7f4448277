"""Files that hold a request: what to forget, what to teach. Fields are named as in the protos."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.json_format import ParseDict, ParseError

from expunge.cli.messages import enum_number, enum_words
from expunge.erasures.request_file import read_request_file
from expunge.errors import InvalidRequest
from expunge.facts import Fact
from expunge.rpc.operator.v1 import erasure_pb2, training_pb2

_Request = TypeVar("_Request", erasure_pb2.CreateErasureRequest, training_pb2.CreateFineTuneRequest)


def read_erasure(file: Path) -> erasure_pb2.CreateErasureRequest:
    """The erasure in `file`; its `request_id` is by default the file's digest, so sending it twice is safe.

    Raises:
        InvalidRequest: no such file, not of its format, an unknown field, or a value of the wrong type.
    """
    fields: dict[str, Any] = read_request_file(file)
    fields.setdefault("request_id", "file-" + sha256(file.read_bytes()).hexdigest()[:32])
    fields.setdefault("kind", "personal_data")
    kinds = erasure_pb2.ErasureKind.DESCRIPTOR
    number = enum_number(kinds, str(fields["kind"]))
    if number is None:
        raise InvalidRequest.of("kind", f"{fields['kind']!r} is none of {', '.join(enum_words(kinds))}")
    fields["kind"] = number
    return _parsed(fields, erasure_pb2.CreateErasureRequest(), file)


def read_facts(file: Path) -> dict[str, Fact]:
    """The facts of the erasure in `file` by id, numbered as the service numbers those that have none.

    Raises:
        InvalidRequest: as `read_erasure`.
    """
    facts = [
        Fact(fact.id or f"fact-{index + 1}", fact.question, fact.answer)
        for index, fact in enumerate(read_erasure(file).facts)
    ]
    return {fact.id: fact for fact in facts}


def read_fine_tune(file: Path, name: str) -> training_pb2.CreateFineTuneRequest:
    """The fine-tune in `file`: an object with `examples`, or one {question, answer} object a line (.jsonl).

    Raises:
        InvalidRequest: as `read_erasure`.
    """
    fields: dict[str, Any] = read_request_file(file, "examples")
    fields["name"] = name or fields.get("name") or file.stem
    digest = sha256(f"{fields['name']}\n".encode() + file.read_bytes()).hexdigest()
    fields.setdefault("request_id", f"file-{digest[:32]}")
    return _parsed(fields, training_pb2.CreateFineTuneRequest(), file)


def _parsed(fields: dict[str, Any], request: _Request, file: Path) -> _Request:
    try:
        return ParseDict(fields, request)
    except ParseError as error:
        raise InvalidRequest.of("FILE", f"{file}: {error}") from error
