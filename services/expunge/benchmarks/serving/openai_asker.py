"""Asks a peer over its OpenAI-compatible completions API."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx

from expunge.benchmarks.serving.load import AskFailed, Piece
from expunge.benchmarks.serving.plan import Ask, Target
from expunge.errors import InvalidRequest

_DATA, _DONE = "data:", "[DONE]"
PEERS = ("vllm", "llama.cpp", "transformers")


def body_of(peer: str, ask: Ask, end_tokens: tuple[int, ...]) -> dict[str, Any]:
    """The body of one streamed completion: greedy, of exactly `max_tokens` tokens as far as the peer can.

    Raises:
        InvalidRequest: no such peer.
    """
    body: dict[str, Any] = {
        "model": ask.model,
        "prompt": ask.prompt,
        "max_tokens": ask.max_tokens,
        "temperature": 0.0,
        "stream": True,
    }
    counted = {"stream_options": {"include_usage": True}}
    if peer == "vllm":
        counted["stream_options"]["continuous_usage_stats"] = True
        return body | counted | {"ignore_eos": True}
    if peer == "llama.cpp":
        bias = {str(token): -100 for token in end_tokens}
        return body | counted | {"ignore_eos": True, "logit_bias": bias}
    if peer == "transformers":  # refuses stream_options
        greedy = {"max_new_tokens": ask.max_tokens, "do_sample": False, "eos_token_id": -1}
        return body | {"generation_config": json.dumps(greedy)}
    raise InvalidRequest.of("peer", f"{peer!r} is not known; choose from {', '.join(PEERS)}")


class OpenAiAsker:
    """One pool of connections to a peer.

    A server-sent event counts as the tokens that its usage says are new; where events carry no usage, one
    with text counts as one token.
    """

    def __init__(self, target: Target, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._target = target
        headers = {"authorization": f"Bearer {target.token}"} if target.token else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(
            base_url=target.address, headers=headers, limits=limits, transport=transport
        )

    async def ask(self, ask: Ask, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """See `Asker.ask`."""
        body = body_of(self._target.peer, ask, self._target.end_tokens)
        told = 0
        try:
            async with self._client.stream(
                "POST", "/v1/completions", json=body, timeout=timeout_s
            ) as response:
                if response.is_error:
                    text = (await response.aread()).decode(errors="replace")
                    raise AskFailed(f"HTTP {response.status_code}: {text[:200]}")
                async for line in response.aiter_lines():
                    event = line.removeprefix(_DATA).strip()
                    if not line.startswith(_DATA) or event == _DONE:
                        continue
                    piece = _piece(json.loads(event), told)
                    told += piece.tokens
                    yield piece
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise AskFailed(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()


def _piece(event: dict[str, Any], told: int) -> Piece:
    """
    Args:
        told: tokens that earlier events carried.

    Raises:
        AskFailed: the event is an error.
    """
    if "error" in event:
        raise AskFailed(str(event["error"])[:200])
    usage = event.get("usage") or {}
    total = int(usage.get("completion_tokens") or 0)
    has_text = any(choice.get("text") for choice in event.get("choices") or ())
    is_running_count = bool(event.get("choices")) and total
    tokens = max(0, total - told) if is_running_count else int(has_text)
    return Piece(tokens, total_tokens=total, prompt_tokens=int(usage.get("prompt_tokens") or 0))
