"""The demo's clients: a process that asks questions over gRPC at a steady rate, whatever comes back.

It reads one `LoadPlan` line from standard input, writes one `Response` line for each finished request to
standard output, and stops asking when standard input is closed.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from expunge.cli.demo.responses import About, LoadPlan, Outcome, Response
from expunge.cli.failures import of_call
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

if TYPE_CHECKING:
    from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceAsyncStub

REFUSED = "REFUSED_BY_POLICY"


class Load:
    """Asks the questions of one plan."""

    def __init__(self, plan: LoadPlan, stub: InferenceServiceAsyncStub) -> None:
        self._plan = plan
        self._stub = stub
        self._turns = asyncio.Semaphore(plan.streams)
        self._random = random.Random(plan.seed)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Sends requests until `stop`, then waits for those that still run."""
        if self._plan.calibrate_s:
            await self._keep_full(time.time() + self._plan.calibrate_s)
        else:
            await self._arrive(stop)
        await asyncio.gather(*self._running)

    async def _arrive(self, stop: asyncio.Event) -> None:
        """Poisson arrivals: the gaps are exponential, so they never wait for an answer."""
        due = time.monotonic()
        while not stop.is_set():
            due += self._random.expovariate(self._plan.rate)
            try:
                await asyncio.wait_for(stop.wait(), max(0.0, due - time.monotonic()))
            except TimeoutError:
                self._start()

    async def _keep_full(self, until: float) -> None:
        """Closed loop, to measure what the machine can serve."""

        async def one_stream() -> None:
            while time.time() < until:
                await self._ask(*self._random.choice(self._plan.questions))

        await asyncio.gather(*(one_stream() for _ in range(self._plan.streams)))

    def _start(self) -> None:
        task = asyncio.ensure_future(self._ask(*self._random.choice(self._plan.questions)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _ask(self, about: About, question: str) -> None:
        async with self._turns:
            response = await ask(self._stub, self._plan, about, question)
        print(response.to_line(), flush=True)


async def ask(stub: InferenceServiceAsyncStub, plan: LoadPlan, about: About, question: str) -> Response:
    """Asks one question and notes every version its chunks name."""
    request = pb.GenerateStreamRequest(
        alias=plan.alias, messages=[pb.Message(role="user", content=question)], max_tokens=plan.max_tokens
    )
    sent = first = time.time()
    seen: dict[tuple[str, int], None] = {}
    tokens = 0
    outcome, status, detail = Outcome.ANSWERED, "OK", ""
    try:
        metadata = (("authorization", f"Bearer {plan.token}"),)
        async for chunk in stub.GenerateStream(request, metadata=metadata, timeout=plan.timeout_s):
            first = first if seen else time.time()
            seen[(chunk.version, chunk.generation)] = None
            tokens += chunk.token_count
            if chunk.finish_reason == pb.FINISH_REASON_REFUSED:
                outcome = Outcome.REFUSED
    except grpc.aio.AioRpcError as error:
        failure = of_call(error)
        outcome = Outcome.REFUSED if failure.reason == REFUSED else Outcome.FAILED
        status, detail = failure.status, failure.sentence
    return Response(about, outcome, sent, first, time.time(), tuple(seen), tokens, status, detail)


async def main() -> None:
    """Runs one plan from standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    plan = LoadPlan.from_line((await reader.readline()).decode())
    stop = asyncio.Event()

    async def watch_input() -> None:
        await reader.read()
        stop.set()

    watching = asyncio.create_task(watch_input())
    async with grpc.aio.insecure_channel(plan.address) as channel:
        await Load(plan, InferenceServiceStub(channel)).run(stop)
    watching.cancel()


if __name__ == "__main__":
    asyncio.run(main())
