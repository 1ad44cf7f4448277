"""Asks the service over gRPC, as its clients do."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from expunge.benchmarks.serving.load import AskFailed, Piece
from expunge.benchmarks.serving.plan import Ask, Target
from expunge.client import NO_RETRIES, AsyncClient, CallError, Sampling

IMPOSSIBLE = -100.0  # added to the logits of tokens that would end an answer


class ExpungeAsker:
    """One connection to the inference port; a failed request counts as failed, it is not sent again."""

    def __init__(self, target: Target) -> None:
        self._client = AsyncClient(target.address, target.token, retry=NO_RETRIES)
        self._sampling = Sampling(logit_bias=dict.fromkeys(target.end_tokens, IMPOSSIBLE))

    async def ask(self, ask: Ask, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """See `Asker.ask`."""
        chunks = self._client.stream(
            alias=ask.model,
            prompt=ask.prompt,
            max_tokens=ask.max_tokens,
            sampling=self._sampling,
            timeout_s=timeout_s,
        )
        try:
            async for chunk in chunks:
                usage = chunk.usage
                yield Piece(
                    tokens=chunk.token_count,
                    version=chunk.version,
                    total_tokens=usage.completion_tokens if usage else 0,
                    prompt_tokens=usage.prompt_tokens if usage else 0,
                )
        except CallError as error:
            raise AskFailed(f"{error.status}: {error.message}") from error
        finally:
            await chunks.aclose()

    async def close(self) -> None:
        await self._client.close()
