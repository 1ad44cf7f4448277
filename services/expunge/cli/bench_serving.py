"""`expunge bench serving`: how fast the service answers, and how that compares."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from expunge.cli.failures import ExitCode
from expunge.cli.session import Session, command
from expunge.config import Settings, read_settings
from expunge.errors import InvalidRequest

if TYPE_CHECKING:
    from expunge.benchmarks.serving.matrix import Matrix
    from expunge.benchmarks.serving.measurement import Peer
    from expunge.benchmarks.serving.result_files import ResultFiles
    from expunge.benchmarks.serving.stage import Access

ROLLOUT_PERIOD_S = 0.2
TABLE_WIDTH = 124  # its figures are not cut off where the terminal is narrower
MIN_SLOTS = 8  # the base, four adapters, and what the first one is flipped to, with room for those that leave

Numbers = Annotated[str, typer.Option(help="Comma-separated; empty: as --full or the quick run has it.")]
OpenLoop = Annotated[
    bool | None, typer.Option("--open/--no-open", help="Poisson arrivals, too; with --full by default.")
]
Rate = Annotated[
    float, typer.Option(min=0.0, help="Their requests a second; 0: half of what the closed loop reached.")
]
DuringRollouts = Annotated[
    bool, typer.Option("--during-rollouts", help="Each cell again, with a rollout every 200 ms.")
]
Flood = Annotated[
    int, typer.Option(min=0, help="Each cell again, while another client keeps so many streams; 0: not.")
]
InProcess = Annotated[
    bool, typer.Option("--in-process", help="The engine class in process, too: what Serve costs.")
]
PeerModels = Annotated[
    str, typer.Option(help="Its names for the adapters, comma-separated; empty: bench-a,...,bench-d.")
]
AdaptersFolder = Annotated[Path | None, typer.Option(help="Keep the adapters here, for a peer to load.")]
OnlyAdapters = Annotated[bool, typer.Option("--only-adapters", help="Write the adapters and stop.")]
Plot = Annotated[bool, typer.Option("--plot/--no-plot", help="Draw serving.png (needs matplotlib).")]


def add_to(app: typer.Typer) -> None:
    """Registers the command on `expunge bench`."""
    command(app, "serving")(serving)


def serving(
    session: Session,
    full: Annotated[bool, typer.Option("--full", help="Every prompt length, and open loops.")] = False,
    streams: Numbers = "",
    prompts: Numbers = "",
    adapters: Numbers = "",
    output_tokens: Annotated[int, typer.Option(min=1, help="Tokens of every answer.")] = 64,
    rounds: Annotated[int, typer.Option(min=0, help="Requests of each stream; 0: 1, with --full 2.")] = 0,
    open_loop: OpenLoop = None,
    rate: Rate = 0.0,
    during_rollouts: DuringRollouts = False,
    flood: Flood = 0,
    in_process: InProcess = False,
    peer: Annotated[str, typer.Option(help="vllm, llama.cpp or transformers, at --peer-url.")] = "",
    peer_url: Annotated[str, typer.Option(help="Its address, such as http://127.0.0.1:8000.")] = "",
    peer_model: Annotated[str, typer.Option(help="Its base model; empty: the first it lists.")] = "",
    peer_models: PeerModels = "",
    model: Annotated[str, typer.Option(help="What is served: 'bundled', hub id, folder, .gguf file.")] = "",
    dtype: Annotated[str, typer.Option(help="auto, bfloat16 or float32, of a service started here.")] = "",
    operator_token: Annotated[str, typer.Option(help="With --address; else the local service's own.")] = "",
    adapters_folder: AdaptersFolder = None,
    only_adapters: OnlyAdapters = False,
    out: Annotated[Path, typer.Option(help="Folder of serving.json and serving.png.")] = Path("."),
    plot: Plot = True,
    seed: Annotated[int, typer.Option(min=0, help="Of prompts and arrivals.")] = 0,
) -> None:
    """Drive the service from a separate process and measure what its clients see."""
    from expunge.benchmarks.serving.measurement import Comparisons, measure  # imports torch and Ray

    settings = _settings(model, dtype, session)
    if only_adapters:
        _write_adapters(session, settings, adapters_folder)
        return
    matrix = _matrix(full, streams, prompts, adapters, output_tokens, rounds, open_loop, rate)
    rival = _peer(peer, peer_url, peer_model, peer_models) if peer else None
    files = _files(settings, out, plot)
    cells = measure(
        settings,
        _service(session, settings, operator_token),
        matrix,
        Comparisons(rival, in_process, ROLLOUT_PERIOD_S if during_rollouts else 0.0, flood),
        adapters_folder=adapters_folder,
        seed=seed,
        timeout_s=max(session.timeout_s, 300.0),
        progress=_sayer(session),
    )
    with closing(cells):  # whatever ends it, what was started is stopped
        for cell in cells:
            files.add(cell)
    _tell(session, files)


def _files(settings: Settings, out: Path, with_plot: bool) -> ResultFiles:
    from expunge.benchmarks.serving.conditions import Conditions
    from expunge.benchmarks.serving.result_files import ResultFiles

    conditions = Conditions.now(
        model=settings.model, dtype=_dtype_name(settings), command=["expunge", *sys.argv[1:]]
    )
    return ResultFiles(out, conditions, with_plot=with_plot)


def _tell(session: Session, files: ResultFiles) -> None:
    """The table or the JSON document.

    Raises:
        typer.Exit: an answer named two versions.
    """
    from expunge.benchmarks.serving.report import mixed_versions, summary, table

    files.draw()
    session.out.document(files.document)
    if not session.out.as_json:
        width = max(session.out.console.width, TABLE_WIDTH)
        Console(width=width, highlight=False).print(table(files.results))
        for line in [*summary(files.results), *files.conditions.lines()]:
            session.out.say(escape(line))
        session.out.say(f"[green]✓[/] {files.names} in {escape(str(files.folder.resolve()))}")
    if mixed_versions(files.results):
        raise typer.Exit(ExitCode.FAILED)


def _settings(model: str, dtype: str, session: Session) -> Settings:
    given = {"model": model, "dtype": dtype}
    settings = read_settings(**{name: value for name, value in given.items() if value})
    if settings.adapter_slots < MIN_SLOTS and not session.has_address:
        raise InvalidRequest.of("adapter_slots", f"must be at least {MIN_SLOTS} for four adapters")
    return settings


def _matrix(
    full: bool,
    streams: str,
    prompts: str,
    adapters: str,
    output_tokens: int,
    rounds: int,
    open_loop: bool | None,
    rate: float,
) -> Matrix:
    from expunge.benchmarks.serving.matrix import ADAPTERS, FULL, QUICK

    start = FULL if full else QUICK
    chosen = replace(
        start,
        streams=_numbers("streams", streams, 1) or start.streams,
        prompts=_numbers("prompts", prompts, 1) or start.prompts,
        adapters=_numbers("adapters", adapters, 0) or start.adapters,
        output_tokens=output_tokens,
        rounds=rounds or start.rounds,
        open_loop=(start.open_loop or rate > 0) if open_loop is None else open_loop,
        rate=rate,
    )
    if max(chosen.adapters) > len(ADAPTERS):
        raise InvalidRequest.of("adapters", f"must be at most {len(ADAPTERS)}")
    return chosen


def _numbers(field: str, text: str, least: int) -> tuple[int, ...]:
    words = _words(text)
    if not all(word.isdigit() and int(word) >= least for word in words):
        raise InvalidRequest.of(field, f"{text!r} is no comma-separated list of numbers from {least}")
    return tuple(int(word) for word in words)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _write_adapters(session: Session, settings: Settings, folder: Path | None) -> None:
    """The adapters alone, for a peer to load."""
    from expunge.benchmarks.serving.matrix import ADAPTERS
    from expunge.benchmarks.serving.stage import write_adapters

    if folder is None:
        raise InvalidRequest.of("adapters_folder", "is needed with --only-adapters")
    for name, written in write_adapters(settings, folder, ADAPTERS).items():
        session.out.say(f"{name}: {escape(str(written))}")


def _peer(kind: str, url: str, model: str, adapters: str) -> Peer:
    from expunge.benchmarks.serving.measurement import Peer
    from expunge.benchmarks.serving.openai_asker import PEERS

    if kind not in PEERS:
        raise InvalidRequest.of("peer", f"{kind!r} is not known; choose from {', '.join(PEERS)}")
    if not url.startswith(("http://", "https://")):
        raise InvalidRequest.of("peer_url", f"{url!r} is no URL; start the peer and name it")
    return Peer(kind, url.rstrip("/"), model, tuple(_words(adapters)))


def _dtype_name(settings: Settings) -> str:
    from expunge.models.load import precision_of
    from expunge.models.precision import resolve_precision
    from expunge.models.source import resolve_folder

    if settings.backend == "vllm":  # computes in what weights are in
        return str(resolve_precision(settings.dtype).weights).removeprefix("torch.")
    return str(precision_of(resolve_folder(settings.model, settings.cache), settings.dtype))


def _service(
    session: Session, settings: Settings, operator_token: str
) -> Callable[[], AbstractContextManager[Access]]:
    """A service of the benchmark's own, or the one at the address that was given."""
    from expunge.benchmarks.serving.stage import Access, own_service, service_pid

    if not session.has_address:
        return partial(own_service, settings, os.getpid(), _sayer(session))

    @contextmanager
    def given() -> Iterator[Access]:
        yield Access(
            session.inference_address,
            session.operator_address,
            _bare(session.metadata("client")),
            operator_token or _bare(session.metadata("operator")),
            service_pid(session.state, session.inference_address),
        )

    return given


def _sayer(session: Session) -> Callable[[str], None]:
    return lambda text: session.out.say(f"[dim]· {escape(text)}[/]")


def _bare(metadata: tuple[tuple[str, str], ...]) -> str:
    return metadata[0][1].removeprefix("Bearer ") if metadata else ""
