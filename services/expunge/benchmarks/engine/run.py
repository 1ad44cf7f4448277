"""The whole benchmark of the engine: figures as a document, and as tables."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from expunge.benchmarks.engine.steps import ADAPTERS, CONTEXT, Case, Steps, measure
from expunge.benchmarks.engine.streams import KNOWN_PROMPT, LONG_PROMPT, STREAMS, Streams
from expunge.benchmarks.serving.matrix import ADAPTERS as NAMES
from expunge.benchmarks.serving.stage import write_adapters
from expunge.benchmarks.serving.statistics import Spread
from expunge.config import Settings
from expunge.models.load import precision_of
from expunge.models.source import resolve_folder

ROWS = (1, 2, 4, 8, 16, 32)
PROMPT_TOKENS = (16, 32, 64)
_MIXED = {
    "base": ("",),
    "1 adapter": ("v0",),
    "4 adapters": tuple(f"v{index}" for index in range(4)),
    f"{ADAPTERS} adapters": tuple(f"v{index}" for index in range(ADAPTERS)),
}

Say = Callable[[str], None]


async def run_engine_benchmark(settings: Settings, repeats: int, rounds: int, say: Say) -> dict[str, Any]:
    """Milliseconds of forward passes, and what streams notice.

    Args:
        repeats: measurements of each pass; the median counts.
        rounds: how often a long prompt enters, and a known beginning is sent.
    """
    say("loading the model: with torch alone, and with the kernels in fp32 and with weights in bf16")
    float32 = settings.model_copy(update={"dtype": "float32"})
    bfloat16 = settings.model_copy(update={"dtype": "bfloat16"})
    plain, wide = Steps.load(float32, with_kernels=False), Steps.load(float32, with_kernels=True)
    halved = Steps.load(bfloat16, with_kernels=True)
    precision = precision_of(resolve_folder(settings.model, settings.cache), settings.dtype)
    fast = halved if precision.weights is torch.bfloat16 else wide
    decode = []
    for rows in ROWS:
        say(f"{rows} rows")
        case = Case(rows)
        contenders = {
            "torch": partial(plain.run, case),
            "kernels": partial(wide.run, case),
            "weights in bf16": partial(halved.run, case),
        }
        decode.append({"rows": rows, **measure(contenders, repeats)})
    adapters = []
    for rows in (8, 32):
        say(f"{rows} rows under adapters")
        cases = {name: Case(rows, versions[:rows]) for name, versions in _MIXED.items()}
        adapters.append({"rows": rows, **measure(_passes(fast, cases), repeats)})
    say("prompts beside 8 rows")
    cases = {str(tokens): Case(8, prompt_tokens=tokens) for tokens in (0, *PROMPT_TOKENS)}
    beside = measure(_passes(fast, cases), repeats)
    del plain, wide, halved, fast
    return {"decode_ms": decode, "adapters_ms": adapters, "prompt_beside_8_rows_ms": beside} | (
        await _streams(settings, rounds, say)
    )


def _passes(steps: Steps, cases: dict[str, Case]) -> dict[str, Callable[[], None]]:
    return {name: partial(steps.run, case) for name, case in cases.items()}


async def _streams(settings: Settings, rounds: int, say: Say) -> dict[str, Any]:
    streams = await Streams.start(settings)
    stalls, loads, beginnings = [], [], []
    try:
        with tempfile.TemporaryDirectory() as folder:
            adapter = write_adapters(settings, Path(folder), NAMES[:1])[NAMES[0]]
            for seed in range(rounds):
                say(f"a prompt of {LONG_PROMPT:,} tokens beside {STREAMS} streams, {seed + 1}/{rounds}")
                stalls.append(_compared(*await streams.stall(10 * seed)))
                say(f"an adapter beside {STREAMS} streams, {seed + 1}/{rounds}")
                loads.append(_compared(*await streams.load(10 * seed + 5, adapter)))
                first, later = await streams.known_beginning(10_000 + 10 * seed)
                beginnings.append({"first_s": first, "later_s": later, "ratio": later / first})
    finally:
        streams.close()
    return {"long_prompt": stalls, "adapter_load": loads, "known_beginning": beginnings}


def _compared(quiet: Spread, busy: Spread) -> dict[str, float]:
    return {
        "quiet_p50_ms": quiet.p50 * 1000,
        "quiet_p99_ms": quiet.p99 * 1000,
        "busy_p50_ms": busy.p50 * 1000,
        "busy_p99_ms": busy.p99 * 1000,
        "p99_ratio": busy.p99 / quiet.p99,
    }


def tables(figures: dict[str, Any]) -> list[Table]:
    """The figures for a person."""
    beside = figures["prompt_beside_8_rows_ms"]
    return [
        _table(f"One decoding step, {CONTEXT} positions before, ms", figures["decode_ms"]),
        _table("Under adapters of rank 16 on every linear layer, ms", figures["adapters_ms"]),
        _table("8 rows beside so many prompt tokens, ms", [beside]),
        _table(f"{STREAMS} streams while {LONG_PROMPT:,} prompt tokens enter", figures["long_prompt"]),
        _table(f"{STREAMS} streams while an adapter of rank 16 is loaded", figures["adapter_load"]),
        _table(f"First token after {KNOWN_PROMPT} known tokens", figures["known_beginning"]),
    ]


def _table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    return table
