"""What is to be trained: one new version for each distinct version that aliases point at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from expunge.registry.records import JobKind, Rollout
from expunge.unlearning.jobs import job_id


@dataclass(frozen=True)
class Lineage:
    """A live version and the aliases that point at it; `index` counts the lineages of one plan from 0."""

    live_version: str
    aliases: tuple[str, ...]
    index: int


@dataclass(frozen=True)
class Attempt:
    """One training of an erasure: its round, and how often it was rebased on newer live versions before."""

    erasure_id: str
    round: int
    rebases: int

    def job_id(self, kind: JobKind, lineage: Lineage) -> str:
        """`<erasure>-r<round>-<stage>`, with the rebase and the lineage where they are not the first."""
        plain = job_id(self.erasure_id, self.round, kind)
        head, _, stage = plain.rpartition("-")
        rebase = f"b{self.rebases}" if self.rebases else ""
        index = f"-{lineage.index + 1}" if lineage.index else ""
        return f"{head}{rebase}-{stage}{index}"


def is_canary(rollout: Rollout) -> bool:
    """Whether nobody can say which version to build on: the alias is split, or may be put back any time."""
    return len(rollout.targets) > 1 or bool(rollout.canary)


def plan_of(rollouts: Iterable[Rollout]) -> dict[str, str]:
    """Alias → the version it points at; none of `rollouts` may be a canary."""
    return {rollout.alias: rollout.targets[0].version for rollout in rollouts}


def lineages_of(plan: Mapping[str, str]) -> tuple[Lineage, ...]:
    """The distinct live versions of a plan, in the order of their first alias."""
    aliases: dict[str, list[str]] = {}
    for alias in sorted(plan):
        aliases.setdefault(plan[alias], []).append(alias)
    return tuple(
        Lineage(version, tuple(names), index) for index, (version, names) in enumerate(aliases.items())
    )
