"""One whole measurement: sets everybody up, drives the matrix, and takes everything down again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import psutil

from expunge.benchmarks.serving.driver import Driver
from expunge.benchmarks.serving.flood import Flood
from expunge.benchmarks.serving.footprint import Processes, family
from expunge.benchmarks.serving.matrix import ADAPTERS, BASE, Matrix
from expunge.benchmarks.serving.operator import Flipper, Operator
from expunge.benchmarks.serving.plan import Ask, Target, TargetKind
from expunge.benchmarks.serving.prompts import PromptWriter, end_tokens
from expunge.benchmarks.serving.run import (
    ENGINE,
    EXPUNGE,
    CellResult,
    Contender,
    Progress,
    ServingBenchmark,
)
from expunge.benchmarks.serving.stage import SPARE, Access, listener_of, set_up, write_adapters
from expunge.config import Settings, thread_environment
from expunge.errors import InvalidRequest, Unavailable
from expunge.models.source import resolve_folder

_OWN_NAMES = {name: name for name in (BASE, *ADAPTERS)}


@dataclass(frozen=True)
class Peer:
    """An OpenAI-compatible server to compare with.

    Attributes:
        kind: vllm, llama.cpp or transformers.
        model: its name for the base model; "": the first that it lists.
        adapters: its names for the adapters; empty: as the benchmark's own.
    """

    kind: str
    url: str
    model: str = ""
    adapters: tuple[str, ...] = ()

    def names(self, wanted: Sequence[str] = ADAPTERS) -> dict[str, str]:
        """The benchmark's model names → the peer's.

        Args:
            wanted: the adapters that the load asks for.

        Raises:
            InvalidRequest: there are fewer names than adapters.
            Unavailable: it does not list its models.
        """
        adapters = self.adapters or ADAPTERS
        if len(adapters) < len(wanted):
            raise InvalidRequest.of("peer_models", f"names {len(adapters)} of {len(wanted)} adapters")
        return {BASE: self.model or self._first_model(), **dict(zip(ADAPTERS, adapters, strict=False))}

    def _first_model(self) -> str:
        try:
            listed = httpx.get(f"{self.url}/v1/models", timeout=30.0).raise_for_status().json()
            return str(listed["data"][0]["id"])
        except (httpx.HTTPError, KeyError, IndexError, ValueError) as error:
            raise Unavailable(
                f"the peer at {self.url} does not list its models ({type(error).__name__}: {error}); "
                "is it running? --peer-model names its model"
            ) from error


@dataclass(frozen=True)
class Comparisons:
    """What is measured beside the service itself.

    Attributes:
        peer: None: none.
        in_process: the engine class, called in process.
        rollout_period_s: each cell again with a rollout every so many seconds; 0: not.
        flood_streams: each cell again while the operator, as another client, keeps so many streams; 0: not.
    """

    peer: Peer | None = None
    in_process: bool = False
    rollout_period_s: float = 0.0
    flood_streams: int = 0


def measure(
    settings: Settings,
    service: Callable[[], AbstractContextManager[Access]],
    matrix: Matrix,
    comparisons: Comparisons,
    *,
    adapters_folder: Path | None = None,
    seed: int = 0,
    timeout_s: float = 300.0,
    progress: Progress = lambda text: None,
) -> Generator[CellResult, None, None]:
    """Runs the whole matrix, cell by cell; whoever stops in the middle has what was measured so far.

    Args:
        settings: model, cache and sizes of the service that is measured.
        service: starts it, or names one that runs.
        adapters_folder: where the adapters are written and stay; None: a folder that goes away.
        seed: of prompts and arrivals.
        timeout_s: of one request.

    Raises:
        ExpungeError, grpc.RpcError: somebody could not be set up.
    """
    peer = comparisons.peer
    peer_names = peer.names(matrix.adapter_names) if peer else {}
    model = resolve_folder(settings.model, settings.cache)
    writer = PromptWriter(model, seed)
    with ExitStack() as stack:
        folder = adapters_folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        progress("writing the adapters")
        flips = comparisons.rollout_period_s
        flipped = (ADAPTERS[0], SPARE) if flips else ()
        folders = write_adapters(settings, folder, tuple(dict.fromkeys((*matrix.adapter_names, *flipped))))
        access = stack.enter_context(service())
        channel = stack.enter_context(grpc.insecure_channel(access.operator))
        operator = Operator(channel, (("authorization", f"Bearer {access.operator_token}"),))
        progress("pushing the adapters and rolling them out")
        versions = set_up(operator, folders)
        contenders = _contenders(stack, settings, access, comparisons, folders, end_tokens(model), peer_names)
        benchmark = ServingBenchmark(
            matrix,
            contenders,
            writer,
            flipper=_flipper(operator, versions, flips) if flips else None,
            flood=_flood(stack, access, matrix, writer, end_tokens(model), comparisons.flood_streams),
            seed=seed,
            timeout_s=timeout_s,
        )
        progress("warming up")
        benchmark.warm_up()
        yield from benchmark.run(progress)


def _flipper(operator: Operator, versions: dict[str, str], period_s: float) -> Flipper:
    """Flips the first adapter's alias, which every cell with adapters asks for."""
    return Flipper(operator, ADAPTERS[0], (versions[ADAPTERS[0]], versions[SPARE]), period_s)


def _flood(
    stack: ExitStack,
    access: Access,
    matrix: Matrix,
    writer: PromptWriter,
    ends: tuple[int, ...],
    streams: int,
) -> Flood | None:
    """Floods the base version, as the operator: another client than the one that is measured."""
    if not streams:
        return None
    target = Target(TargetKind.EXPUNGE, access.inference, access.operator_token, end_tokens=ends)
    driver = stack.enter_context(Driver(target))
    prompts = [writer.write(min(matrix.prompts)) for _ in range(streams)]
    return Flood(driver, tuple(Ask(BASE, prompt, matrix.output_tokens) for prompt in prompts), streams)


def _contenders(
    stack: ExitStack,
    settings: Settings,
    access: Access,
    comparisons: Comparisons,
    folders: dict[str, Path],
    ends: tuple[int, ...],
    peer_names: dict[str, str],
) -> tuple[Contender, ...]:
    own = Target(TargetKind.EXPUNGE, access.inference, access.client_token, end_tokens=ends)
    driver = stack.enter_context(Driver(own))
    drivers = [driver]
    found = [Contender(EXPUNGE, driver, _OWN_NAMES, _service_processes(access.pid, drivers))]
    if comparisons.in_process:
        driver = stack.enter_context(_engine_driver(settings, folders, ends))
        drivers.append(driver)
        found.append(Contender(ENGINE, driver, _OWN_NAMES, _processes(driver.pid)))
    peer = comparisons.peer
    if peer is not None:
        target = Target(TargetKind.OPENAI, peer.url, peer=peer.kind, end_tokens=ends)
        driver = stack.enter_context(Driver(target))
        drivers.append(driver)
        pid = listener_of(peer.url)
        found.append(Contender(peer.kind, driver, peer_names, _processes(pid) if pid else None))
    return tuple(found)


def _engine_driver(settings: Settings, folders: dict[str, Path], ends: tuple[int, ...]) -> Driver:
    """The engine as a replica would run it: same settings, same environment of its threads."""
    given = {name: str(getattr(settings, name)) for name in settings.model_fields_set if name != "state_dir"}
    adapters = {BASE: "", **{name: str(folder) for name, folder in folders.items()}}
    target = Target(TargetKind.ENGINE, end_tokens=ends, settings=given, adapters=adapters)
    return Driver(target, thread_environment(settings.resolved_engine_threads))


def _service_processes(pid: int | None, drivers: list[Driver]) -> Processes | None:
    """Those of the service; where this process has started it, without itself and the load processes."""
    if pid is None:
        return None

    def found() -> Iterable[psutil.Process]:
        members = family(pid, without=[driver.pid for driver in drivers])
        return [one for one in members if one.pid != os.getpid()]

    return found


def _processes(pid: int) -> Processes:
    return lambda: family(pid)
