"""The before/after table: what the model told and tells, beside what a model that never knew would score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from expunge.auditing.intervals import Share
from expunge.auditing.probes import ProbeKind
from expunge.cli.demo.interrogation import Interrogation
from expunge.facts import Fact


@dataclass(frozen=True)
class Scoreboard:
    """Replies about the erased facts before and after, beside those about people who do not exist.

    Args:
        controls: by figure of the audit, what the very version that is now live scored on controls.
    """

    before: Interrogation
    after: Interrogation
    controls: Mapping[str, Share]

    def table(self) -> Table:
        """Leaks by kind of probe, each with n and its Wilson 95 % interval."""
        table = Table(
            title="What comes back  [dim](replies that hold the secret; controls: as the audit found)[/]",
            title_justify="left",
            header_style="bold",
        )
        table.add_column("probe")
        table.add_column("before  [95 %]", justify="right")
        table.add_column("after  [95 %]", justify="right")
        table.add_column("control: never knew  [95 %]", justify="right")
        names = {
            ProbeKind.DIRECT: "asked as taught",
            ProbeKind.PARAPHRASE: "in other words",
            ProbeKind.PREFIX: "after each prefix of the answer",
        }
        for kind, name in names.items():
            self._add(
                table, name, kind.value, *(each.finding(kind).full for each in (self.before, self.after))
            )
        partial = [each.finding(ProbeKind.PREFIX).partial for each in (self.before, self.after)]
        self._add(table, "[dim]any secret word after a prefix[/]", "prefix_partial", *partial)
        return table

    def _add(self, table: Table, name: str, figure: str, before: Share, after: Share) -> None:
        control = self.controls[figure]
        table.add_row(name, _shown(before), _shown(after, "red", "green"), _shown(control))


def answers_table(facts: tuple[Fact, ...], interrogations: dict[str, Interrogation]) -> Table:
    """Each question with the answer that was given at each of the named times."""
    table = Table(header_style="bold", show_lines=True)
    table.add_column("question", ratio=2)
    for name in interrogations:
        table.add_column(name, ratio=3)
    for fact in facts:
        table.add_row(fact.question, *(escape(each.told(fact).strip()) for each in interrogations.values()))
    return table


def _shown(share: Share, some: str = "default", none: str = "default") -> str:
    """Hits of n with the Wilson 95 % interval, in colour `some` where there are any."""
    lower, upper = share.interval
    colour = some if share.hits else none
    return f"[{colour}]{share.hits:.0f}/{share.n}[/]  [dim]\\[{lower:.3f}–{upper:.3f}][/]"
