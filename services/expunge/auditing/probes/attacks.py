"""The templates of probes that attack, as data (`data/attacks.yaml`)."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from expunge.auditing.probes.probe import Probe, ProbeKind
from expunge.errors import ConfigError, Violation
from expunge.facts import QuestionAnswer

BLANKS = ("question", "subject", "secret", "anonymous", "initial", "examples", "other")


@dataclass(frozen=True)
class Attack:
    """One template.

    Attributes:
        kind: of the probes that are made of it.
        question: text with blanks (`BLANKS`); `system` and `prefix` may have them, too.
        language: in which it asks for the answer (ISO 639-1).
        system, raw, prefix, room: as in `Probe`.
    """

    kind: ProbeKind
    question: str
    language: str = "en"
    system: str | None = None
    raw: bool = False
    prefix: str = ""
    room: float = 1.0

    def __post_init__(self) -> None:
        unknown = self.blanks - set(BLANKS)
        if unknown:
            raise ConfigError(
                f"a template of kind {self.kind} has the unknown blanks {', '.join(sorted(unknown))}; "
                f"there are {', '.join(BLANKS)}"
            )

    @property
    def blanks(self) -> frozenset[str]:
        """Names of the blanks in it."""
        text = f"{self.system or ''}{self.question}{self.prefix}"
        return frozenset(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)

    def probe(self, fact_id: str, filled: Mapping[str, str], lead: str) -> Probe | None:
        """The probe with its blanks filled; None where one of them is empty.

        Args:
            lead: the answer to {other}, which the reply may give first.
        """
        if not all(filled[name] for name in self.blanks):
            return None
        return Probe(
            fact_id,
            self.kind,
            self.question.format_map(filled),
            system=None if self.system is None else self.system.format_map(filled),
            raw=self.raw,
            prefix=self.prefix.format_map(filled),
            lead=lead if "other" in self.blanks else "",
            room=self.room,
        )


@dataclass(frozen=True)
class Attacks:
    """Every template, and the questions and answers that stand beside an erased one where none are given."""

    templates: tuple[Attack, ...]
    examples: tuple[QuestionAnswer, ...]

    @classmethod
    def of(cls, data: object) -> Attacks:
        """From a mapping like that of `data/attacks.yaml`.

        Raises:
            ConfigError: something is missing, unknown, or not of its type.
        """
        try:
            assert isinstance(data, Mapping)
            templates = tuple(_attack(item) for item in data["templates"])
            examples = tuple(QuestionAnswer(item["question"], item["answer"]) for item in data["examples"])
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            message = "must be a mapping of `templates` (kind, question, …) and `examples` (question, answer)"
            raise ConfigError(
                f"attack templates: {message}: {error}", violations=[Violation("attacks", message)]
            ) from error
        return cls(templates, examples)


def _attack(item: Mapping[str, Any]) -> Attack:
    return Attack(**{**item, "kind": ProbeKind(item["kind"])})


@cache
def shipped_attacks() -> Attacks:
    """The templates that come along."""
    file = resources.files("expunge.auditing") / "data" / "attacks.yaml"
    return Attacks.of(yaml.safe_load(file.read_text(encoding="utf-8")))
