"""The engine: one model in one thread, asked from coroutines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from expunge.errors import ExpungeError, InvalidRequest
from expunge.inference.backend import Backend
from expunge.inference.batch_runner import BatchRunner
from expunge.inference.block_pool import BLOCK, blocks_for
from expunge.inference.codec import TextCodec
from expunge.inference.elastic_threads import ElasticThreads
from expunge.inference.engine_thread import EngineThread
from expunge.inference.limits import EngineLimits
from expunge.inference.observer import EngineObserver, Unobserved
from expunge.inference.outbox import Outbox
from expunge.inference.prompts import prompt_tokens, score_tokens
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch, merge
from expunge.inference.residents import Residents
from expunge.inference.stats import EngineStats
from expunge.inference.step_loop import StepLoop
from expunge.inference.table_staging import TableStaging
from expunge.inference.task import Generation, Item, Scoring, Task
from expunge.inference.validation import check_generation, check_score
from expunge.models.load import LoadedModel
from expunge.registry.records import VersionRecord


class Engine(Backend):
    """The backend of our own, on torch; see `Backend` for what its methods promise.

    Args:
        loaded: the base model; its linear layers are replaced by multi-adapter ones.
        limits: sizes.
        clock: seconds since the epoch, for deadlines.
        threads: adjusts torch's threads before every forward pass; None leaves them alone.
        kernels_folder: where compiled kernels are kept; None: torch alone computes.
        observer: is told what the engine does.

    Raises:
        ModelError: the model can't be served.
        ConfigError: there is no memory for the KV cache.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        limits: EngineLimits,
        clock: Callable[[], float] = time.time,
        threads: ElasticThreads | None = None,
        kernels_folder: Path | None = None,
        observer: EngineObserver | None = None,
    ) -> None:
        runner = BatchRunner(loaded, limits.slots, limits.max_rank, limits.kv_bytes, threads, kernels_folder)
        self._codec = TextCodec(loaded.model, loaded.tokenizer)
        self._context = min(limits.max_context, runner.context)
        self._kv_blocks = runner.kv.blocks
        self._residents = Residents()
        self._loop = StepLoop(runner, limits, lambda task: self._residents.release(task.version), clock)
        self._observer = observer or Unobserved()
        self._thread = EngineThread(self._loop, self._observer)
        self._staging = TableStaging(
            loaded, runner.table, self._residents, self._thread, limits.max_rank, self._loop.forget
        )

    # --- life

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; whatever still runs ends in `Unavailable`."""
        self._thread.stop()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive

    @property
    def is_stopping(self) -> bool:
        """Whether it was closed, or broke, and takes no more requests."""
        return self._thread.is_stopping

    def stats(self) -> EngineStats:
        """What runs and what has been done."""
        return replace(self._loop.stats(), staged=len(self.staged()))

    # --- versions

    def staged(self) -> tuple[str, ...]:
        """Versions that may be asked for."""
        return self._residents.ids

    async def load_version(self, record: VersionRecord, folder: Path | None) -> None:
        """See `Backend.load_version`."""
        await self._staging.load(record, folder)

    async def unload_version(self, version: str) -> bool:
        """See `Backend.unload_version`."""
        return await self._staging.unload(version)

    # --- requests

    async def generate(
        self, request: GenerationRequest, interval_s: float = 0.0
    ) -> AsyncIterator[TokenBatch]:
        """See `Backend.generate`."""
        check_generation(request, self._codec.vocabulary)
        outbox = Outbox()
        task = await self._submit(
            request.version,
            lambda slot: self._fitting(
                Generation(
                    request,
                    slot,
                    prompt_tokens(request, self._codec, self._context),
                    self._context,
                    self._codec,
                    outbox.deliver,
                )
            ),
        )
        try:
            finish = None
            while finish is None:
                items = await outbox.take()
                batches = [item for item in items if isinstance(item, TokenBatch)]
                if batches:
                    task.phases.answer()
                    batch = merge(batches)
                    finish = batch.finish
                    yield batch
                if finish is None:
                    _raise_first_error(items)
                    await asyncio.sleep(interval_s)
        finally:
            task.is_cancelled = True
            phases = task.phases
            self._observer.request_ended(request.version, phases.queue_s, phases.prefill_s, phases.decode_s)

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """See `Backend.score`."""
        check_score(request)
        outbox = Outbox()
        task = await self._submit(
            request.version,
            lambda slot: self._fitting(
                Scoring(
                    request,
                    slot,
                    *score_tokens(request, self._codec, self._context),
                    self._codec,
                    outbox.deliver,
                )
            ),
        )
        try:
            items = await outbox.take()
            task.phases.answer()
        finally:
            task.is_cancelled = True
            self._observer.request_ended(request.version, task.phases.queue_s, task.phases.prefill_s, None)
        _raise_first_error(items)
        (result,) = (item for item in items if isinstance(item, ScoreResult))
        return result

    async def _submit(self, version: str, make: Callable[[int], Task]) -> Task:
        """Count a use of `version`, make the task (off the event loop: tokenising takes time), queue it."""
        slot = self._residents.acquire(version)
        try:
            task = await asyncio.to_thread(make, slot)
            self._thread.submit(task)
        except BaseException:
            self._residents.release(version)
            raise
        return task

    def _fitting(self, task: Task) -> Task:
        """The task, if the KV cache could hold it to its very end, were it alone.

        Raises:
            InvalidRequest: it could not.
        """
        most = task.final_length if isinstance(task, Generation) else len(task.tokens)
        if blocks_for(most) > self._kv_blocks:
            raise InvalidRequest.of(
                "max_tokens",
                f"and prompt need {most} tokens of KV cache; this service has {self._kv_blocks * BLOCK}",
            )
        return task


def _raise_first_error(items: Sequence[Item]) -> None:
    for item in items:
        if isinstance(item, ExpungeError):
            raise item
