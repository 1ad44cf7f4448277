"""What every engine can do, and engines by name."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from expunge.config import Settings
from expunge.errors import ConfigError, Violation
from expunge.inference.limits import EngineLimits
from expunge.inference.observer import EngineObserver, Unobserved
from expunge.inference.request import GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.inference.stats import EngineStats
from expunge.registry.records import VersionRecord

_Result = TypeVar("_Result")


class Backend(ABC):
    """Serves one base model with several resident versions.

    All methods but `close` are for one event loop. Every request runs on the version it names from its first
    token to its last, or fails; nothing is ever answered by another version.
    """

    @abstractmethod
    def start(self) -> None:
        """Begin to take requests; called once, inside the event loop."""

    @abstractmethod
    def close(self) -> None:
        """Stop; whatever still runs ends in `Unavailable`. May be called from any thread."""

    @property
    @abstractmethod
    def is_alive(self) -> bool:
        """Whether it runs."""

    @abstractmethod
    def stats(self) -> EngineStats:
        """What runs and what has been done."""

    @abstractmethod
    def staged(self) -> tuple[str, ...]:
        """Versions that may be asked for."""

    @abstractmethod
    async def load_version(self, record: VersionRecord, folder: Path | None) -> None:
        """Make a version resident, warm and checked; does nothing when it is.

        Args:
            record: the version.
            folder: where its adapter files are, needed until this returns; None for the base version.

        Raises:
            InvalidAdapter: the files do not fit the base model, or the version does not compute as it should.
            DataLoss: the files are not those of `record.id`.
            FailedPrecondition: no slot is free, or the version belongs to another base model.
        """

    @abstractmethod
    async def unload_version(self, version: str) -> bool:
        """Refuse new uses of `version`, wait for the last to end, then free its slot.

        Returns:
            false when it was loaded again in the meantime and therefore stays, or was not resident.
        """

    @abstractmethod
    def generate(self, request: GenerationRequest, interval_s: float = 0.0) -> AsyncIterator[TokenBatch]:
        """The text that follows the request's prompt, as it is generated; the last batch carries `finish`.

        The first token comes at once; later ones together, `interval_s` apart. A caller that stops iterating
        frees its row.

        Raises:
            InvalidRequest: a field is wrong or the prompt does not fit the context.
            VersionNotStaged: the version is not resident here.
            Overloaded: too many requests are waiting.
            ModelError: the version produces numbers that are not finite.
            Unavailable: the engine was closed, or is lost.
        """

    @abstractmethod
    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Log-likelihood of the request's continuation after its context.

        Where a token spans the border of the two, it counts to the continuation.

        Raises:
            DeadlineExceeded: the deadline passed first.
            InvalidRequest, VersionNotStaged, Overloaded, ModelError, Unavailable: as `generate`.
        """


async def open_backend(settings: Settings, observer: EngineObserver | None = None) -> Backend:
    """The engine that `settings.backend` names, with the base model loaded; `start` it in the event loop.

    Args:
        settings: which engine, model and sizes.
        observer: is told what the engine does; vLLM's tells nothing of its steps and of a request's phases.

    Raises:
        ModelError: the model can't be loaded.
        ConfigError: the backend's library is not installed.
    """
    return await _OPENERS[settings.backend](settings, observer or Unobserved())


async def _open_torch(settings: Settings, observer: EngineObserver) -> Backend:
    from expunge.inference.elastic_threads import ElasticThreads
    from expunge.inference.engine import Engine
    from expunge.models.load import load_model

    loaded = await _in_passing_thread(
        partial(load_model, settings.model, cache=settings.cache, dtype=settings.dtype)
    )
    threads = ElasticThreads(settings.resolved_engine_threads)
    folder = settings.cache / "kernels" if settings.native_kernels else None
    return await _in_passing_thread(
        partial(
            Engine,
            loaded,
            EngineLimits.of(settings),
            threads=threads,
            kernels_folder=folder,
            observer=observer,
        )
    )


async def _open_vllm(settings: Settings, observer: EngineObserver) -> Backend:
    if find_spec("vllm") is None:
        message = "vllm is not installed; install expunge[vllm] in an environment of its own, or use torch"
        raise ConfigError(f"backend: {message}", violations=[Violation("backend", message)])
    from expunge.inference.vllm.arguments import prepare_environment

    prepare_environment()
    from expunge.inference.vllm.engine import VllmEngine
    from expunge.models.load import load_outline

    def opened() -> Backend:
        loaded = load_outline(
            settings.model,
            cache=settings.cache,
            dtype=settings.dtype,
            device="cuda" if settings.engine_gpus else "cpu",
        )
        return VllmEngine.open(
            loaded, EngineLimits.of(settings), gpus=settings.engine_gpus, observer=observer
        )

    return await _in_passing_thread(opened)


# Model libraries are imported where an engine is opened: who only names one starts seconds sooner without.
_OPENERS: Mapping[str, Callable[[Settings, EngineObserver], Awaitable[Backend]]] = {
    "torch": _open_torch,
    "vllm": _open_vllm,
}


async def _in_passing_thread(function: Callable[[], _Result]) -> _Result:
    """Run `function` in a thread that ends with it, and so do the threads torch gave it.

    They would count against the cores for as long as theirs lives, and make the engine's own spin less.
    """
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, function)
