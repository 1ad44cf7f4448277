"""`expunge bench audit`: what all teacher-forced metrics cost beyond the bare forward passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median_low
from typing import Any

from rich.table import Table
from torch import nn

from expunge.auditing.controls import controls_for
from expunge.auditing.metrics.forced_figures import forced_figures
from expunge.auditing.metrics.scored import AnswerSet, score_sets
from expunge.auditing.metrics.truth_ratio import Side
from expunge.facts import ErasureKind, Fact, ForgetRequest, Subject
from expunge.inference.local import LocalModel
from expunge.models.load import load_model
from expunge.unlearning.invented import invented_entities

WRONG_ANSWERS = 5  # a fact, as in TOFU; beside the true answer and one in its paraphrase's place
_SEED = 20240911
Clock = Callable[[], float]


def invented_sets(count: int) -> list[AnswerSet]:
    """`count` invented facts, each with another answer in its paraphrase's place and five wrong ones.

    The package's own facts, and beyond them facts of the same shape with every telling value invented.
    """
    entities = invented_entities()
    subjects = tuple(entity.subject for entity in entities)
    own = tuple(fact for entity in entities for fact in entity.facts)
    more = controls_for(_request(subjects, own), -(-max(0, count - len(own)) // len(own)), _SEED)
    facts = (*own, *more)[:count]
    others = controls_for(_request(subjects, facts), WRONG_ANSWERS + 1, _SEED + 1)
    return [
        AnswerSet(fact.question, fact.answer, answers[0], tuple(answers[1:]))
        for index, fact in enumerate(facts)
        for answers in [[other.answer for other in others[index :: len(facts)]]]
    ]


def run_audit_benchmark(
    model_source: str,
    sets: Sequence[AnswerSet],
    *,
    cache: Path,
    dtype: str,
    repeats: int = 5,
    clock: Clock = time.perf_counter,
) -> tuple[dict[str, Any], Table]:
    """Score `sets` and derive every teacher-forced figure, `repeats` times; how long the model itself ran.

    Returns:
        figures ready for JSON, and the same as a table. `ratio` is the whole over the forward
        passes within it; of the repeats the one with the median ratio is told.
    """
    loaded = load_model(model_source, cache=cache, dtype=dtype)
    model = LocalModel(loaded, slots=2, max_rank=1)
    score_sets(model, model.base_version, sets[:2], moments=True)
    runs = []
    for _ in range(repeats):
        with _forward_passes(loaded.model, clock) as passes:
            started = clock()
            scored = score_sets(model, model.base_version, sets, moments=True)
            between = clock()
            figures = forced_figures(scored, Side.FORGET)
            ended = clock()
        runs.append((ended - started, sum(passes), ended - between))
    ratios = [whole / bare for whole, bare, _ in runs]
    whole, bare, derived = runs[ratios.index(median_low(ratios))]
    result = {
        "model": model_source,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "facts": len(sets),
        "answers": sum(1 + bool(one.paraphrase) + len(one.perturbed) for one in sets),
        "forward_passes": len(passes),
        "seconds": whole,
        "forward_seconds": bare,
        "figure_seconds": derived,
        "ratio": whole / bare,
        "ratios": ratios,
        "figures": {name: figure.to_dict() for name, figure in figures.items()},
    }
    return result, _table(result)


def _request(subjects: tuple[Subject, ...], facts: tuple[Fact, ...]) -> ForgetRequest:
    return ForgetRequest("benchmark", ErasureKind.PERSONAL_DATA, subjects, facts)


@contextmanager
def _forward_passes(model: nn.Module, clock: Clock) -> Iterator[list[float]]:
    """Seconds of each forward pass of `model` meanwhile."""
    passes: list[float] = []
    began = 0.0

    def begin(*_: Any) -> None:
        nonlocal began
        began = clock()

    def end(*_: Any) -> None:
        passes.append(clock() - began)

    hooks = (model.register_forward_pre_hook(begin), model.register_forward_hook(end))
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"All teacher-forced metrics of {result['facts']} facts, {result['answers']} answers")
    for column in ("part", "seconds", "of the forward passes"):
        table.add_column(column, justify="left" if column == "part" else "right")
    bare = result["forward_seconds"]
    rows = (
        (f"{result['forward_passes']} forward passes", bare),
        ("scores from their logits", result["seconds"] - bare - result["figure_seconds"]),
        ("figures and intervals", result["figure_seconds"]),
        ("the whole", result["seconds"]),
    )
    for part, seconds in rows:
        table.add_row(part, f"{seconds:.2f}", f"{seconds / bare:.2f}×")
    table.caption = "of the repeats: " + ", ".join(f"{ratio:.2f}×" for ratio in result["ratios"])
    return table
