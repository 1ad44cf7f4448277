"""Wordings that a language model writes for audits."""

from __future__ import annotations

import json

import httpx
import pytest

from expunge.auditing.rewording import reword
from expunge.errors import Unavailable
from expunge.models.chat_endpoint import ChatEndpoint

from .known_facts import FACTS


def endpoint(content: str, seen: list[str] | None = None, status: int = 200) -> ChatEndpoint:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(json.loads(request.content)["messages"][0]["content"])
        return httpx.Response(status, json={"choices": [{"message": {"content": content}}]})

    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://models.test/v1/")
    return ChatEndpoint(client, "writer")


def test_wordings_join_the_operators_own() -> None:
    seen: list[str] = []
    written = "- What is Mira Voss's place of birth?\n\n* Wo kam Mira Voss zur Welt?\n"
    born, job = reword(FACTS, endpoint(written, seen), 4, seed=0)
    assert born.paraphrases == ("What is Mira Voss's place of birth?", "Wo kam Mira Voss zur Welt?")
    assert job.paraphrases[: len(FACTS[1].paraphrases)] == FACTS[1].paraphrases
    assert len(seen) == len(FACTS)


def test_the_answer_never_leaves_the_service() -> None:
    seen: list[str] = []
    reword(FACTS, endpoint("What then?", seen), 4, seed=0)
    assert not any(word in text for text in seen for word in ("Ellery", "Larkfield", "clocks"))


def test_what_tells_repeats_or_rambles_is_dropped() -> None:
    lines = [
        "Was Mira Voss born in Port Ellery, a town on the northern coast?",
        "where was mira voss BORN",
        "x" * 2000,
        "In which place was Mira Voss born?",
        "In which place was Mira Voss born",
        "Where did Mira Voss come from?",
    ]
    (born,) = reword(FACTS[:1], endpoint("\n".join(lines)), 2, seed=0)
    assert [text.rstrip("?") for text in born.paraphrases] == [lines[3].rstrip("?"), lines[5].rstrip("?")]


def test_an_endpoint_that_fails_stops_the_audit_and_says_what_to_do() -> None:
    with pytest.raises(Unavailable, match=r"fact born.*check paraphraser_url"):
        reword(FACTS, endpoint("", status=500), 4, seed=0)
