"""What vLLM sends back for one request, until its deadline or the engine's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from vllm.outputs import RequestOutput

from expunge.errors import Unavailable
from expunge.inference.vllm.failures import translate


class Outputs:
    """Waits for the next output of a request; `close` it, and vLLM drops what is left of the request.

    Args:
        stream: what `AsyncLLM.generate` gave.
        version: what the request runs on.
        deadline: seconds since the epoch, or None.
        clock: seconds since the epoch.
        closing: done once the engine is being closed.
    """

    def __init__(
        self,
        stream: AsyncGenerator[RequestOutput, None],
        version: str,
        deadline: float | None,
        clock: Callable[[], float],
        closing: asyncio.Future[None],
    ) -> None:
        self._stream = stream
        self._version = version
        self._deadline = deadline
        self._clock = clock
        self._closing = closing

    async def next(self) -> RequestOutput:
        """The next output.

        Raises:
            TimeoutError: the deadline has passed.
            Unavailable: the engine was closed, is lost, or gave the request up.
            ExpungeError: what else vLLM raised.
        """
        remaining = None if self._deadline is None else self._deadline - self._clock()
        if remaining is not None and remaining <= 0:
            raise TimeoutError
        arriving = asyncio.ensure_future(anext(self._stream))
        try:
            await asyncio.wait(
                (arriving, self._closing), timeout=remaining, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            if not arriving.done():
                arriving.cancel()
                await asyncio.wait((arriving,))
        return self._result(arriving)

    async def close(self) -> None:
        """Drop the request; one that is complete is let be."""
        with suppress(Exception):  # an engine that is lost or closed has nothing left to drop
            await self._stream.aclose()

    def _result(self, arrived: asyncio.Future[RequestOutput]) -> RequestOutput:
        if self._closing.done():
            arrived.cancelled() or arrived.exception()  # looked at: it is told as this error
            raise Unavailable("the engine of this replica was closed; retry")
        if arrived.cancelled():
            raise TimeoutError
        try:
            output = arrived.result()
        except StopAsyncIteration:
            raise Unavailable("the engine of this replica gave the request up; retry") from None
        except Exception as error:
            raise translate(error, self._version) from error
        if output.finished and output.outputs[0].finish_reason not in ("stop", "length"):
            raise Unavailable("the engine of this replica gave the request up; retry")
        return output
