"""`expunge bench`: measurements on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from expunge.cli import bench_serving
from expunge.cli.session import Session, command
from expunge.config import Settings, read_settings

app = typer.Typer(help="Benchmarks on this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Benchmarks on this machine."""


bench_serving.add_to(app)


@command(app, "engine")
def engine(
    session: Session,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each pass; the median counts.")] = 15,
    rounds: Annotated[int, typer.Option(min=1, help="Long prompts that enter beside running streams.")] = 3,
    dtype: Annotated[
        str, typer.Option(help="auto, bfloat16 or float32, of all tables but the first, which has both.")
    ] = "",
) -> None:
    """What the engine's steps take, and what running streams notice of a long prompt; about three minutes."""
    from expunge.benchmarks.engine.run import run_engine_benchmark, tables  # imports torch

    def say(what: str) -> None:
        session.out.say(f"[dim]· {what}[/]")

    settings = read_settings(**({"dtype": dtype} if dtype else {}))
    figures = asyncio.run(run_engine_benchmark(settings, repeats, rounds, say))
    session.out.document(figures)
    if not session.out.as_json:
        for table in tables(figures):
            session.out.console.print(table)


@command(app, "audit")
def audit(
    session: Session,
    model: Annotated[
        str, typer.Option(help="'bundled', a hub id, a folder of safetensors, or a .gguf file.")
    ] = "",
    facts: Annotated[int, typer.Option(min=1, help="Invented facts to audit, seven answers each.")] = 40,
    repeats: Annotated[int, typer.Option(min=1, help="Audits; the median counts.")] = 3,
) -> None:
    """What all teacher-forced metrics of an audit cost beyond the bare forward passes; about a minute."""
    from expunge.benchmarks.audit import invented_sets, run_audit_benchmark  # imports torch

    settings = Settings()
    figures, table = run_audit_benchmark(
        model or settings.model,
        invented_sets(facts),
        cache=settings.cache,
        dtype=settings.dtype,
        repeats=repeats,
    )
    session.out.document(figures)
    if not session.out.as_json:
        session.out.console.print(table)


@command(app, "ability")
def ability(
    session: Session,
    adapter: Annotated[
        list[Path] | None, typer.Option(help="Folder of an adapter; later ones are held against the first.")
    ] = None,
    noise: Annotated[
        list[float] | None,
        typer.Option(min=0, help="Ask the first adapter with so many standard deviations of noise, too."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="'bundled', a hub id, a folder of safetensors, or a .gguf file.")
    ] = "",
) -> None:
    """What a model and its adapters score on the task set of general ability; half a minute a version."""
    from expunge.auditing.policy import Policy
    from expunge.benchmarks.ability import run_ability_benchmark  # imports torch

    settings = read_settings()
    figures, table = run_ability_benchmark(
        model or settings.model,
        adapter or [],
        noise or [],
        cache=settings.cache,
        dtype=settings.dtype,
        policy=Policy.of(settings),
    )
    session.out.document(figures)
    if not session.out.as_json:
        session.out.console.print(table)


@command(app, "memo")
def memo(
    session: Session,
    model: Annotated[
        str, typer.Option(help="'bundled', a hub id, a folder of safetensors, or a .gguf file.")
    ] = "",
    questions: Annotated[int, typer.Option(min=1, max=24, help="Facts to measure, from the demo's.")] = 24,
    plain: Annotated[int, typer.Option(min=0, help="Measure so many the plain way, too; 0: all.")] = 2,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, max=200, help="Most tokens of a generation; the paper's are 200.")
    ] = 64,
) -> None:
    """How much faster the batched MEMO is than one generation at a time, with equal values."""
    from expunge.auditing.memo import MemoOptions
    from expunge.benchmarks.memo import run_memo_benchmark  # imports torch
    from expunge.cli.demo.cast import load_cast

    settings = Settings()

    def say(what: str, done: int, total: int) -> None:
        session.out.say(f"[dim]{what} {done}/{total}[/]")

    figures, table = run_memo_benchmark(
        model or settings.model,
        load_cast().all_facts[:questions],
        cache=settings.cache,
        options=MemoOptions(max_new_tokens=max_new_tokens),
        plain_facts=plain,
        progress=say,
    )
    session.out.document(figures)
    if not session.out.as_json:
        session.out.console.print(table)
