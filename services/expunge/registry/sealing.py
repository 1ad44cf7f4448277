"""Records as bytes before they are sealed: forget requests, job specs and results, audit reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from expunge.facts import ErasureKind, Fact, ForgetRequest, QuestionAnswer, Subject


def encode(content: Mapping[str, Any]) -> bytes:
    """Canonical JSON: equal contents give equal bytes. Raises TypeError for what JSON can't hold."""
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode(data: bytes) -> dict[str, Any]:
    content = json.loads(data)
    if not isinstance(content, dict):
        raise TypeError(f"a sealed record must be an object, not {type(content).__name__}")
    return content


def encode_request(request: ForgetRequest) -> bytes:
    """A forget request as canonical JSON."""
    return encode(
        {
            "request_id": request.request_id,
            "kind": request.kind.value,
            "subjects": [[one.name, list(one.other_names)] for one in request.subjects],
            "facts": [
                [
                    fact.id,
                    fact.question,
                    fact.answer,
                    list(fact.secrets),
                    list(fact.paraphrases),
                    fact.subject,
                ]
                for fact in request.facts
            ],
            "retain": [[item.question, item.answer] for item in request.retain],
            "ground": request.ground,
            "due_at": request.due_at,
        }
    )


def decode_request(data: bytes) -> ForgetRequest:
    """The inverse of `encode_request`."""
    content = decode(data)
    return ForgetRequest(
        request_id=content["request_id"],
        kind=ErasureKind(content["kind"]),
        subjects=tuple(Subject(name, tuple(others)) for name, others in content["subjects"]),
        facts=tuple(
            Fact(id_, question, answer, tuple(secrets), tuple(paraphrases), subject)
            for id_, question, answer, secrets, paraphrases, subject in content["facts"]
        ),
        retain=tuple(QuestionAnswer(question, answer) for question, answer in content["retain"]),
        ground=content["ground"],
        due_at=content["due_at"],
    )
