"""Scopes of requests: what guards read of them, as it was sent and as the model will read it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from expunge.errors import NotFound, Unavailable
from expunge.gateway.base_model import special_tokens_key
from expunge.gateway.guards import Scope
from expunge.gateway.prompt_tokens import TokenReader
from expunge.gateway.upstream import BlobUpstream
from expunge.inference.request import GenerationRequest, ScoreRequest
from expunge.models.manifest import digest_of_base


class SpecialTokens:
    """Takes out of a text what the tokenizer parses as special tokens, which can break up a name in it."""

    def __init__(self, texts: Iterable[str]) -> None:
        longest_first = sorted(filter(None, texts), key=len, reverse=True)
        self._beginnings = {text[0] for text in longest_first}
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def without(self, text: str) -> str:
        """`text` without them: once through from the left, as the tokenizer goes."""
        if not any(beginning in text for beginning in self._beginnings):
            return text
        return self._pattern.sub("", text)


class ScopeReader:
    """Reads requests by the special tokens of the served model, fetched when the first request comes.

    Args:
        base_version: id of the base version that is served.
    """

    def __init__(
        self, blobs: BlobUpstream, base_version: Callable[[], str], token_reader: TokenReader
    ) -> None:
        self._blobs = blobs
        self._base_version = base_version
        self._token_reader = token_reader
        self._special: dict[str, SpecialTokens] = {}

    async def of_generation(self, request: GenerationRequest, passing: frozenset[str]) -> Scope:
        """The scope of a prompt or a conversation.

        Args:
            passing: erasures whose guards the caller passes.

        Raises:
            InvalidRequest: a token id stands for nothing.
            Unavailable: the model's special tokens are not known.
        """
        without = (await self._special_tokens()).without
        if request.prompt_tokens:
            text, plain = await self._token_reader.readings(request.prompt_tokens)
            return _scope(Scope(text, passing=passing), Scope(without(plain), passing=passing))
        sent = Scope(request.prompt or "", messages=request.messages, passing=passing)
        turns = tuple(replace(turn, content=without(turn.content)) for turn in request.messages)
        return _scope(sent, replace(sent, text=without(sent.text), messages=turns))

    async def of_score(self, request: ScoreRequest, passing: frozenset[str]) -> Scope:
        """The scope of a text to score; a special token may span its two parts. Raises as `of_generation`."""
        without = (await self._special_tokens()).without
        sent = Scope(request.context, continuation=request.continuation, passing=passing)
        parts = replace(sent, text=without(sent.text), continuation=without(sent.continuation))
        return _scope(sent, parts, Scope(without(sent.text + sent.continuation), passing=passing))

    async def _special_tokens(self) -> SpecialTokens:
        version = self._base_version()
        if version not in self._special:
            key = special_tokens_key(digest_of_base(version))
            try:
                data = await asyncio.to_thread(self._blobs.get_bytes, key)
            except NotFound as error:  # guards that could be blinded must not let anything through
                raise Unavailable(
                    "the served model's special tokens are not published; start the service again",
                    reason="MODEL_NOT_PUBLISHED",
                ) from error
            self._special = {version: SpecialTokens(json.loads(data))}
        return self._special[version]


def _scope(sent: Scope, *read: Scope) -> Scope:
    """`sent`, with those of its readings that are other texts."""
    whole = replace(sent, text=sent.text + sent.continuation, continuation="")
    return replace(sent, readings=tuple(one for one in read if one not in (sent, whole)))
