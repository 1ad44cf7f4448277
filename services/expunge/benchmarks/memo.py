"""`expunge bench memo`: how much faster batched MEMO is than one generation at a time, with equal values."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from expunge.auditing.memo import PAPER_OPTIONS, MemoOptions, MemoScore, measure_memo
from expunge.benchmarks.plain_memo import PlainModel, PlainScore, plain_memo
from expunge.errors import InvalidRequest
from expunge.facts import Fact, QuestionAnswer
from expunge.inference.local import LocalModel
from expunge.models.load import load_model

NEAR_TIE = 1e-4  # top-two logit margin below which batch shape may decide the arg-max
Progress = Callable[[str, int, int], None]  # what is measured, items done, items in all


@dataclass(frozen=True)
class NearTie:
    """A cut whose plain generation met two logits closer than `NEAR_TIE`; its two scores may differ."""

    item: int
    offset: int
    margin: float
    plain: float
    batched: float


@dataclass(frozen=True)
class MemoComparison:
    """Batched against plain values of the same items.

    `largest_difference` is over all cuts that are no near-ties.
    """

    largest_difference: float
    near_ties: tuple[NearTie, ...]


def compare(scores: Sequence[MemoScore], references: Sequence[PlainScore]) -> MemoComparison:
    """Hold each cut's batched score against the plain one."""
    largest = 0.0
    ties = []
    for index, (score, reference) in enumerate(zip(scores, references, strict=True)):
        for offset, value, cut in zip(score.cuts, score.per_cut, reference.cuts, strict=True):
            if cut.smallest_margin < NEAR_TIE:
                ties.append(NearTie(index, offset, cut.smallest_margin, cut.score, value))
            else:
                largest = max(largest, abs(value - cut.score))
    return MemoComparison(largest, tuple(ties))


def run_memo_benchmark(
    model_source: str,
    facts: Sequence[Fact | QuestionAnswer],
    *,
    cache: Path,
    options: MemoOptions = PAPER_OPTIONS,
    plain_facts: int = 0,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, Any], Table]:
    """Measure MEMO of `facts` both ways on one base model in fp32, the plain way first.

    Args:
        model_source: as for `models.load.load_model`.
        cache: where converted models are kept.
        options: without `max_cuts`, which the plain implementation does not know.
        plain_facts: only so many are measured the plain way, too; 0: all. The speed-up is by generation.

    Returns:
        figures ready for JSON, and the same as a table.

    Raises:
        InvalidRequest: no facts, or `max_cuts` set.
    """
    if not facts:
        raise InvalidRequest.of("facts", "is empty; give at least one question and answer")
    if options.max_cuts:
        raise InvalidRequest.of("max_cuts", "can't be set in this benchmark; both ways measure every cut")
    told = progress or (lambda what, done, total: None)
    items = [QuestionAnswer(fact.question, fact.answer) for fact in facts]
    loaded = load_model(model_source, cache=cache, dtype="float32")

    # The plain way goes first: LocalModel replaces the linear layers of the same model.
    plain = PlainModel({"base": loaded.model}, loaded.tokenizer)
    plain.greedy([plain.encode("warm")], "base", 2)
    started = clock()
    references = []
    compared = items[:plain_facts] if plain_facts else items
    for index, item in enumerate(compared):
        references.append(plain_memo(plain, "base", item, options))
        told("plain", index + 1, len(compared))
    plain_seconds = clock() - started

    batched = LocalModel(loaded, slots=2, max_rank=1)
    batched.greedy([batched.encode("warm")], batched.base_version, 2)
    started = clock()
    scores = measure_memo(batched, batched.base_version, items, options)
    batched_seconds = clock() - started
    told("batched", len(items), len(items))

    comparison = compare(scores[: len(references)], references)
    plain_cuts = sum(len(reference.cuts) for reference in references)
    result = _result(model_source, options, scores, comparison, (plain_cuts, plain_seconds), batched_seconds)
    return result, _table(result)


def _result(
    model_source: str,
    options: MemoOptions,
    scores: Sequence[MemoScore],
    comparison: MemoComparison,
    plain: tuple[int, float],
    batched_seconds: float,
) -> dict[str, Any]:
    """`plain` holds how many generations were made the plain way, and in how many seconds."""
    plain_cuts, plain_seconds = plain
    cuts = sum(len(score.cuts) for score in scores)
    return {
        "model": model_source,
        "dtype": "float32",
        "mode": options.mode.value,
        "window": options.window,
        "chat": options.chat,
        "max_new_tokens": options.max_new_tokens,
        "questions": len(scores),
        "cuts": cuts,
        "plain_cuts": plain_cuts,
        "mean_memo": sum(score.mean for score in scores) / len(scores),
        "plain_seconds": plain_seconds,
        "batched_seconds": batched_seconds,
        "speed_up": (plain_seconds / plain_cuts) / (batched_seconds / cuts),
        "largest_difference": comparison.largest_difference,
        "near_ties": [
            {
                "question": tie.item,
                "offset": tie.offset,
                "margin": tie.margin,
                "plain": tie.plain,
                "batched": tie.batched,
            }
            for tie in comparison.near_ties
        ],
    }


def _table(result: dict[str, Any]) -> Table:
    cuts = result["cuts"]
    table = Table(title=f"MEMO ({result['mode']}) of {result['questions']} questions, {cuts} generations")
    for column in ("way", "generations", "seconds", "generations/s", "speed-up"):
        table.add_column(column, justify="left" if column == "way" else "right")
    rows = (("plain", result["plain_cuts"], 1.0), ("batched", cuts, result["speed_up"]))
    for way, made, speed_up in rows:
        seconds = result[f"{way}_seconds"]
        table.add_row(way, str(made), f"{seconds:.2f}", f"{made / seconds:.2f}", f"{speed_up:.1f}×")
    ties = len(result["near_ties"])
    table.caption = f"largest difference {result['largest_difference']:.1e}, {ties} near-ties listed apart"
    return table
