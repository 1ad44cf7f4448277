"""What each step of the erasure found, in a few words, and MEMO before it as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from expunge.cli.messages import short
from expunge.facts import Fact

Figures = Mapping[str, Any]


def explain(state: str, figures: Figures) -> str:
    """The figures that an erasure brought along when it entered `state`; "" where there are none to tell."""
    if figures.get("detail"):
        return str(figures["detail"])
    tell = {
        "accepted": _accepted,
        "suppressed": _suppressed,
        "measuring": _measuring,
        "training": _training,
        "auditing": _auditing,
        "staging": _staging,
        "verified": _verified,
    }.get(state)
    return tell(figures) if tell else ""


def memo_table(facts: Sequence[Fact], figures: Figures) -> Table:
    """MEMO of each true answer and of its candidates; the selected candidates carry a mark."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("    how well remembered (MEMO)")
    table.add_column("the truth", justify="right")
    table.add_column("selected false answers")
    memo, selected = figures.get("memo", {}), figures.get("selected", {})
    for fact in facts:
        chosen = ", ".join(
            f"#{item['candidate'] + 1:.0f} {item['memo']:.2f}" for item in selected.get(fact.id, [])
        )
        table.add_row(f"    [dim]{fact.question}[/]", f"{memo.get(fact.id, 0.0):.2f}", f"[dim]{chosen}[/]")
    return table


def _accepted(figures: Figures) -> str:
    return f"{figures['facts']:.0f} facts, stored under a key of their own"


def _suppressed(figures: Figures) -> str:
    return f"every gateway refuses questions about the person since {figures['seconds_suppressed']:.3f} s"


def _measuring(figures: Figures) -> str:
    text = f"{figures['candidates']:.0f} false answers made, to be learnt in place of the truth"
    dropped = figures.get("dropped", 0)
    return f"{text}, {dropped:.0f} more dropped: they repeated or entailed the truth" if dropped else text


def _training(figures: Figures) -> str:
    return f"MEMO of the true answers {figures['memo_before']:.2f}, on average"


def _auditing(figures: Figures) -> str:
    return (
        f"{figures['steps']:.0f} steps in {figures['training_seconds']:.0f} s made version "
        f"{short(str(figures['version']))}"
    )


def _staging(figures: Figures) -> str:
    return "every gate passed" if figures.get("passed") else ""


def _verified(figures: Figures) -> str:
    found = figures.get("verification", figures)
    return f"{found['probes_answered']:.0f} probes through the live gateway, {found['leaks']:.0f} leaks"
