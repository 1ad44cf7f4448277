"""The engine that runs on vLLM: versions are its LoRA adapters, each under a name of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from expunge.errors import DeadlineExceeded, Overloaded, Unavailable
from expunge.inference.backend import Backend
from expunge.inference.codec import TextCodec
from expunge.inference.limits import EngineLimits
from expunge.inference.observer import EngineObserver, Unobserved
from expunge.inference.prompts import prompt_tokens, score_tokens
from expunge.inference.request import (
    FinishReason,
    GenerationRequest,
    Priority,
    ScoreRequest,
    ScoreResult,
    TokenBatch,
    merge,
)
from expunge.inference.residents import Residents
from expunge.inference.stats import EngineStats
from expunge.inference.validation import check_generation, check_score
from expunge.inference.vllm.answer import Answer, scores
from expunge.inference.vllm.arguments import engine_arguments
from expunge.inference.vllm.figures import Figures
from expunge.inference.vllm.outputs import Outputs
from expunge.inference.vllm.sampling import PRIORITIES, generation_arguments, scoring_arguments
from expunge.inference.vllm.staging import VllmStaging
from expunge.models.load import LoadedModel
from expunge.registry.records import VersionRecord

RETRY_AFTER_S = 1.0


class VllmEngine(Backend):
    """Serves one base model with several resident versions, through vLLM.

    vLLM computes in processes of its own; here requests are counted, resolved to their version, and turned
    into text. It does not look for numbers that are not finite while it answers: a version is probed for them
    when it is loaded.

    Args:
        loaded: the base model, without weights.
        limits: sizes.
        llm: vLLM with that model, started with `engine_arguments`.
        figures: what it tells of itself.
        clock: seconds since the epoch, for deadlines.
        observer: is told of versions that were loaded, and of requests that ended.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        limits: EngineLimits,
        llm: AsyncLLM,
        figures: Figures,
        clock: Callable[[], float] = time.time,
        observer: EngineObserver | None = None,
    ) -> None:
        self._observer = observer or Unobserved()
        self._llm = llm
        self._figures = figures
        self._kv_bytes = llm.vllm_config.cache_config.kv_cache_memory_bytes or 0
        self._limits = limits
        self._clock = clock
        self._codec = TextCodec(loaded.model, loaded.tokenizer)
        self._context = llm.model_config.max_model_len - 1
        self._residents = Residents()
        self._staging = VllmStaging(loaded, llm, self._residents, limits)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Future[None] | None = None
        self._is_closed = False
        self._unfinished = 0
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._generated_tokens = 0

    @classmethod
    def open(
        cls,
        loaded: LoadedModel,
        limits: EngineLimits,
        gpus: int = 0,
        clock: Callable[[], float] = time.time,
        observer: EngineObserver | None = None,
    ) -> VllmEngine:
        """Start vLLM's processes and wait until they have read the model: a minute or more. Blocks."""
        arguments = AsyncEngineArgs(**engine_arguments(loaded, limits, gpus))
        figures = Figures()
        llm = AsyncLLM.from_engine_args(arguments, stat_loggers=[lambda *_: figures])
        return cls(loaded, limits, llm, figures, clock, observer)

    # --- life

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = self._loop.create_future()

    def close(self) -> None:
        self._is_closed = True
        if self._loop and self._closing and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, self._closing)
        self._llm.shutdown()
        self._staging.close()

    @property
    def is_alive(self) -> bool:
        return self._closing is not None and not self._is_closed and not self._llm.errored

    def stats(self) -> EngineStats:
        """What runs and what has been done.

        vLLM does not tell how much of its pool holds old prompts, nor, on a GPU, how large that is.
        """
        running = min(self._unfinished, self._limits.max_rows)
        return EngineStats(
            running=running,
            waiting=self._unfinished - running,
            prompt_tokens=self._prompt_tokens,
            cached_prompt_tokens=self._cached_tokens,
            generated_tokens=self._generated_tokens,
            preemptions=self._figures.preemptions,
            kv_used_bytes=round(self._kv_bytes * self._figures.kv_share) if running else 0,
            kv_kept_bytes=0,
            kv_capacity_bytes=self._kv_bytes,
            staged=len(self.staged()),
        )

    # --- versions

    def staged(self) -> tuple[str, ...]:
        return self._residents.ids

    async def load_version(self, record: VersionRecord, folder: Path | None) -> None:
        started = time.monotonic()
        try:
            await self._staging.load(record, folder)
        except Exception:
            self._observer.load_failed()
            raise
        self._observer.version_loaded(time.monotonic() - started)

    async def unload_version(self, version: str) -> bool:
        return await self._staging.unload(version)

    # --- requests

    async def generate(
        self, request: GenerationRequest, interval_s: float = 0.0
    ) -> AsyncIterator[TokenBatch]:
        check_generation(request, self._codec.vocabulary)
        with self._use(request.version) as number:
            tokens = await asyncio.to_thread(prompt_tokens, request, self._codec, self._context)
            limit = min(request.max_tokens, self._context - len(tokens))
            answer = Answer(request, tokens, limit, self._codec)
            arguments = generation_arguments(request, limit, self._codec.eos_ids)
            outputs = self._ask(request, tokens, number, arguments, RequestOutputKind.DELTA)
            batch = None
            try:
                while batch is None or batch.finish is None:
                    try:
                        output = await outputs.next()
                    except TimeoutError:
                        batch = answer.end(FinishReason.DEADLINE)
                    else:
                        batch = self._batch(answer, output, is_first=batch is None)
                    yield batch
                    if batch.finish is None:
                        await asyncio.sleep(interval_s)
            finally:
                await outputs.close()

    async def score(self, request: ScoreRequest) -> ScoreResult:
        check_score(request)
        with self._use(request.version) as number:
            context, continuation = await asyncio.to_thread(score_tokens, request, self._codec, self._context)
            whole = [*context, *continuation]
            outputs = self._ask(request, whole, number, scoring_arguments(), RequestOutputKind.FINAL_ONLY)
            try:
                output = await outputs.next()
            except TimeoutError:
                raise DeadlineExceeded(
                    f"request {request.request_id} was not scored before its deadline; allow more time"
                ) from None
            finally:
                await outputs.close()
        self._count(output)
        positions = output.prompt_logprobs[len(context) :]
        return ScoreResult(request.version, scores(continuation, positions, self._codec))

    @contextmanager
    def _use(self, version: str) -> Iterator[int]:
        """Count a use of `version`, and the request, while the block runs; gives the version's number."""
        if not self.is_alive:
            raise Unavailable("the engine of this replica does not run; retry")
        number = self._residents.acquire(version)
        try:
            if self._unfinished >= self._limits.max_rows + self._limits.max_queue:
                raise Overloaded(
                    f"{self._unfinished} requests run or wait on this replica already; retry later",
                    metadata={"max_queue": str(self._limits.max_queue)},
                    retry_after_s=RETRY_AFTER_S,
                )
            self._unfinished += 1
            try:
                yield number
            finally:
                self._unfinished -= 1
                self._observer.request_ended(version, None, None, None)
        finally:
            self._residents.release(version)

    def _ask(
        self,
        request: GenerationRequest | ScoreRequest,
        tokens: Sequence[int],
        number: int,
        arguments: dict[str, Any],
        kind: RequestOutputKind,
    ) -> Outputs:
        """Hand a request to vLLM. Its prompts are cached under the adapter's own name."""
        adapter = self._staging.adapter(number)
        salt = adapter.lora_name if adapter else request.version
        stream = self._llm.generate(
            {"type": "token", "prompt_token_ids": list(tokens), "cache_salt": salt},
            SamplingParams(**arguments, output_kind=kind),
            request.request_id,
            lora_request=adapter,
            priority=PRIORITIES[Priority(request.priority)],
        )
        assert self._closing is not None  # `_use` has looked
        return Outputs(stream, request.version, request.deadline, self._clock, self._closing)

    def _batch(self, answer: Answer, output: Any, *, is_first: bool) -> TokenBatch:
        if is_first:
            self._count(output)
        made = output.outputs[0]
        batch = answer.push(made.token_ids, made.logprobs, output.prompt_logprobs)
        self._generated_tokens += len(batch.token_ids)
        if output.finished and batch.finish is None:
            batch = merge((batch, answer.end(FinishReason.LENGTH)))
        return batch

    def _count(self, output: Any) -> None:
        cached = output.num_cached_tokens or 0
        self._cached_tokens += cached
        self._prompt_tokens += len(output.prompt_token_ids) - cached


def _resolve(closing: asyncio.Future[None]) -> None:
    if not closing.done():
        closing.set_result(None)
