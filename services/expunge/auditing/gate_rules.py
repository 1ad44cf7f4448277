"""Gates as a policy declares them: which figure, by which rule, and whether failing blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from expunge.auditing.ability.tasks import Ability
from expunge.auditing.attacks.attack import ATTACK_FIGURES, WHOLE, Attack, figure_of
from expunge.auditing.probes.probe import ProbeKind
from expunge.errors import Violation


class Rule(StrEnum):
    """When a gate is met."""

    FULL_SECRETS = "full_secrets"  # at most `most` replies hold the full secret
    HABIT = "habit"  # the same; where controls hold it, too, the rate is within their interval's upper end
    CONTROLS = "controls"  # the rate is within the upper end of the controls' interval
    LOSS = "loss"  # at most `most` is lost against the baseline


class Action(StrEnum):
    """What failing a gate does."""

    BLOCK = "block"  # the version may not go live
    REOPEN = "reopen"  # asked for once it is live: its erasure is opened again
    REPORT = "report"  # it is told


SHARES = (
    "partial",
    "prefix_partial",
    "other_entity",
    "es",
    "em",
    "probability",
)  # beside the kinds of probes
LOSSES = ("retain_recall", "retain_strength", *Ability)
_FIGURES = {
    Rule.FULL_SECRETS: (
        *(kind.value for kind in ProbeKind),
        *(figure_of(attack, WHOLE) for attack in Attack),
    ),
    Rule.HABIT: tuple(kind.value for kind in ProbeKind),
    Rule.CONTROLS: (*(kind.value for kind in ProbeKind), *ATTACK_FIGURES, *SHARES),
    Rule.LOSS: LOSSES,
}


@dataclass(frozen=True)
class GateRule:
    """One gate.

    Attributes:
        figure: what it judges, and its name.
        most: what the rules full_secrets and habit (a count) and loss (a share) still allow.
    """

    figure: str
    rule: Rule
    action: Action
    most: float = 0.0

    @property
    def blocking(self) -> bool:
        return self.action is Action.BLOCK

    def in_audit(self, *, thorough: bool) -> GateRule:
        """The rule as it counts in one audit: what reopens an erasure blocks in the thorough one."""
        if self.action is Action.REOPEN:
            return replace(self, action=Action.BLOCK if thorough else Action.REPORT)
        return self


def gate_rules(data: object, violations: list[Violation]) -> tuple[GateRule, ...]:
    """The gates of a policy file; what is wrong with them is added to `violations`."""
    if not isinstance(data, list) or not data:
        violations.append(Violation("gates", "must be a list of figure, rule and action"))
        return ()
    rules = []
    for index, item in enumerate(data):
        if fault := _fault(item):
            violations.append(Violation(f"gates[{index}]", fault))
        else:
            most = float(item.get("most", 0.0))
            rules.append(GateRule(item["figure"], Rule(item["rule"]), Action(item["action"]), most))
    figures = [rule.figure for rule in rules]
    violations += [
        Violation("gates", f"judge {figure} twice; keep one")
        for figure in dict.fromkeys(figures)
        if figures.count(figure) > 1
    ]
    return tuple(rules)


def _fault(item: Any) -> str:
    """What is wrong with one gate, "" where nothing is."""
    if not isinstance(item, Mapping) or not {"figure", "rule", "action"} <= set(item):
        return "needs figure, rule and action"
    if unknown := set(item) - {"figure", "rule", "action", "most"}:
        return f"has the unknown keys {', '.join(sorted(map(str, unknown)))}"
    if item["rule"] not in list(Rule) or item["action"] not in list(Action):
        return f"needs a rule of {', '.join(Rule)} and an action of {', '.join(Action)}"
    if item["figure"] not in _FIGURES[Rule(item["rule"])]:
        return (
            f"can't judge {item['figure']!r} by {item['rule']}; it judges {', '.join(_FIGURES[item['rule']])}"
        )
    most = item.get("most", 0)
    if isinstance(most, bool) or not isinstance(most, int | float) or most < 0:
        return "needs a number of at least 0 as `most`"
    if "most" in item and item["rule"] == Rule.CONTROLS:
        return "compares with controls, and has no use for `most`"
    return ""
