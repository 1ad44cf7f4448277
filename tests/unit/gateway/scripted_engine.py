"""An engine without a model: a test decides which request gets a token, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from expunge.errors import ExpungeError
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    ScoreRequest,
    ScoreResult,
    TokenBatch,
    TokenScore,
)


@dataclass
class Row:
    """One request that the engine was given."""

    request: GenerationRequest
    due: asyncio.Queue[TokenBatch | ExpungeError] = field(default_factory=asyncio.Queue)

    def give(self, tokens: int = 1) -> None:
        self.due.put_nowait(TokenBatch("x" * tokens, (7,) * tokens, self.request.version))

    def finish(self, prompt_tokens: int, completion_tokens: int) -> None:
        self.due.put_nowait(
            TokenBatch(
                "",
                (),
                self.request.version,
                FinishReason.LENGTH,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
            )
        )

    def fail(self, error: ExpungeError) -> None:
        self.due.put_nowait(error)


class ScriptedEngine:
    """Remembers its requests in `rows`, in the order they came; those that have ended leave it.

    Attributes:
        answers_at_once: every request gets one token, and ends, without a word from the test.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.answers_at_once = False
        self._changed = asyncio.Condition()

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenBatch]:
        row = Row(request)
        await self._change(lambda: self.rows.append(row))
        if self.answers_at_once:
            row.give()
            row.finish(prompt_tokens=1, completion_tokens=1)
        try:
            while True:
                item = await row.due.get()
                if isinstance(item, ExpungeError):
                    raise item
                yield item
                if item.finish is not None:
                    return
        finally:
            await self._change(lambda: self.rows.remove(row))

    async def score(self, request: ScoreRequest) -> ScoreResult:
        return ScoreResult(request.version, (TokenScore(7, request.continuation, -1.0, True),))

    async def holds(self, count: int) -> None:
        """Wait until `count` requests run."""
        async with self._changed, asyncio.timeout(30):
            await self._changed.wait_for(lambda: len(self.rows) == count)

    def of(self, client: str) -> list[Row]:
        return [row for row in self.rows if row.request.client == client]

    async def _change(self, what: object) -> None:
        assert callable(what)
        async with self._changed:
            what()
            self._changed.notify_all()
