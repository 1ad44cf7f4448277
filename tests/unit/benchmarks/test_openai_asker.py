"""Peers, as a real HTTP server that follows a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from expunge.benchmarks.serving.load import Load
from expunge.benchmarks.serving.measurement import Peer
from expunge.benchmarks.serving.openai_asker import OpenAiAsker, body_of
from expunge.benchmarks.serving.plan import Ask, Plan, Response, Target, TargetKind
from expunge.errors import InvalidRequest, Unavailable

ASK = Ask("tuned", "one two", 3)


@contextmanager
def serving(events: list[object], status: int = 200, asked: list[Any] | None = None) -> Iterator[str]:
    """A completions API that sends these events, and lists one model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(json.dumps({"data": [{"id": "base"}]}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if asked is not None:
                asked.append(json.loads(body))
            lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}" for event in events]
            self._answer("\n\n".join([*lines, ""]))

        def _answer(self, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def event(text: str = "", total: int = 0) -> dict[str, object]:
    usage = {"completion_tokens": total, "prompt_tokens": 32} if total else None
    return {"choices": [{"text": text}], "usage": usage}


async def answered(url: str, peer: str = "vllm") -> Response:
    asker = OpenAiAsker(Target(TargetKind.OPENAI, url, peer=peer))
    (response,) = await Load(asker).run(Plan((ASK,), streams=1))
    await asker.close()
    return response


async def test_an_event_counts_as_many_tokens_as_its_usage_says() -> None:
    asked: list[Any] = []
    with serving([event("a", 1), event("bc", 3), "[DONE]"], asked=asked) as url:
        response = await answered(url)
    assert [tokens for _, tokens in response.arrivals] == [1, 2]
    assert (response.tokens, response.prompt_tokens, response.error) == (3, 32, "")
    assert asked == [body_of("vllm", ASK, ())]


async def test_an_event_without_usage_counts_as_one_token_until_the_last_tells() -> None:
    final = {"choices": [], "usage": {"completion_tokens": 5, "prompt_tokens": 32}}
    with serving([event("a"), event("b"), event(""), final, "[DONE]"]) as url:
        response = await answered(url, "llama.cpp")
    assert [tokens for _, tokens in response.arrivals] == [1, 1]
    assert response.tokens == 5


async def test_a_refusal_and_an_error_in_the_stream_are_failures() -> None:
    with serving([event("no such model")], status=404) as url:
        assert (await answered(url)).error.startswith("HTTP 404")
    with serving([event("a", 1), {"error": {"message": "out of memory"}}]) as url:
        assert "out of memory" in (await answered(url)).error


async def test_a_peer_that_is_gone_is_a_failure() -> None:
    with serving([]) as url:
        pass
    assert "ConnectError" in (await answered(url)).error


def test_each_peer_is_kept_from_ending_early_in_its_own_way() -> None:
    assert body_of("vllm", ASK, (2,))["ignore_eos"] is True
    assert body_of("llama.cpp", ASK, (2,))["logit_bias"] == {"2": -100}
    assert "stream_options" not in body_of("transformers", ASK, (2,))
    with pytest.raises(InvalidRequest, match="choose from"):
        body_of("other", ASK, ())


def test_a_peers_first_model_stands_for_the_base_unless_one_is_named() -> None:
    with serving([]) as url:
        names = Peer("vllm", url, adapters=("x", "y")).names(["bench-a", "bench-b"])
    assert names == {"bench-base": "base", "bench-a": "x", "bench-b": "y"}
    assert Peer("vllm", url, "mine").names()["bench-base"] == "mine"
    with pytest.raises(Unavailable, match="--peer-model"):
        Peer("vllm", url).names()


def test_a_peer_needs_a_name_for_every_adapter() -> None:
    with pytest.raises(InvalidRequest, match="1 of 4"):
        Peer("vllm", "http://127.0.0.1:9", "mine", ("x",)).names()
