"""The before/after table: what the model told and tells, beside what a model that never knew would score."""

from __future__ import annotations

from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from expunge.auditing.intervals import Share
from expunge.auditing.probes import ProbeKind
from expunge.cli.demo.interrogation import Interrogation
from expunge.facts import Fact


@dataclass(frozen=True)
class Scoreboard:
    """Replies before and after, and those about controls: entities that do not exist, asked after."""

    before: Interrogation
    after: Interrogation
    control: Interrogation

    def table(self) -> Table:
        """Leaks by kind of probe, each with n and its Wilson 95 % interval."""
        table = Table(title="What comes back", title_justify="left", header_style="bold")
        table.add_column("probe")
        table.add_column("before", justify="right")
        table.add_column("after  [95 %]", justify="right")
        table.add_column("control: never knew  [95 %]", justify="right")
        names = {
            ProbeKind.DIRECT: "asked as taught (facts)",
            ProbeKind.PARAPHRASE: "in other words",
            ProbeKind.PREFIX: "after each prefix of the answer",
        }
        for kind, name in names.items():
            found = [each.finding(kind) for each in (self.before, self.after, self.control)]
            before, after, control = [item.facts if kind is ProbeKind.DIRECT else item.full for item in found]
            table.add_row(name, _hits(before), _colour(after), f"{_hits(control)}  {_interval(control)}")
        partial = [
            Share.of(reply.leak.partial for reply in each.replies)
            for each in (self.before, self.after, self.control)
        ]
        table.add_row(
            "[dim]any secret word, all probes[/]",
            f"[dim]{_hits(partial[0])}[/]",
            f"[dim]{_hits(partial[1])}  {_interval(partial[1])}[/]",
            f"[dim]{_hits(partial[2])}  {_interval(partial[2])}[/]",
        )
        return table


def answers_table(facts: tuple[Fact, ...], interrogations: dict[str, Interrogation]) -> Table:
    """Each question with the answer that was given at each of the named times."""
    table = Table(header_style="bold", show_lines=True)
    table.add_column("question", ratio=2)
    for name in interrogations:
        table.add_column(name, ratio=3)
    for fact in facts:
        table.add_row(fact.question, *(escape(each.told(fact).strip()) for each in interrogations.values()))
    return table


def _hits(share: Share) -> str:
    return f"{share.hits:.0f}/{share.n}"


def _interval(share: Share) -> str:
    lower, upper = share.interval
    return f"[dim]\\[{lower:.3f}–{upper:.3f}][/]"


def _colour(share: Share) -> str:
    colour = "red" if share.hits else "green"
    return f"[{colour}]{_hits(share)}[/]  {_interval(share)}"
