"""Whether a reply does what an instruction asks, as a program can tell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from expunge.auditing.leaks import fold
from expunge.facts import words

_NUMBERED = re.compile(r"^\s*(\d+)[.)]\s+\S", re.MULTILINE)
_BULLET = re.compile(r"^\s*[-*•]\s+\S", re.MULTILINE)
_OBJECT = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class Check:
    """One check, and what it looks for; `CHECKS` has what each does."""

    name: str
    wanted: Any

    def met_by(self, reply: str) -> bool:
        """Whether `reply` meets it."""
        return CHECKS[self.name](reply, self.wanted)


def checks_of(named: Mapping[str, Any]) -> tuple[Check, ...]:
    """Checks as they are written in the data.

    Raises:
        ValueError: there is no check of a name.
    """
    if unknown := named.keys() - CHECKS.keys():
        raise ValueError(f"no checks {', '.join(sorted(unknown))}; choose from {', '.join(CHECKS)}")
    return tuple(Check(name, wanted) for name, wanted in named.items())


def follows(reply: str, checks: tuple[Check, ...]) -> bool:
    """Whether `reply` holds at least one word and meets every check."""
    return bool(words(reply)) and all(check.met_by(reply) for check in checks)


def _contains(reply: str, wanted: list[str]) -> bool:
    """Every text, whatever the case, at the beginning of a word ("thanks" holds "thank")."""
    text = fold(reply)
    return all(re.search(rf"(?<!\w){re.escape(fold(each))}", text) for each in wanted)


def _holds(reply: str, wanted: list[str]) -> bool:
    """Every text, letter by letter."""
    return all(each in reply for each in wanted)


def _starts_with(reply: str, wanted: str) -> bool:
    """The reply's first words, whatever the case and punctuation."""
    first = _folded_words(wanted)
    return _folded_words(reply)[: len(first)] == first


def _ends_with(reply: str, wanted: str) -> bool:
    last = _folded_words(wanted)
    return _folded_words(reply)[-len(last) :] == last


def _in_order(reply: str, wanted: list[str]) -> bool:
    """Every text as a word of its own, one after the other."""
    left = iter(_folded_words(reply))
    return all(fold(each) in left for each in wanted)


def _numbered(reply: str, wanted: int) -> bool:
    """So many numbered lines, counted from 1."""
    return [int(number) for number in _NUMBERED.findall(reply)] == list(range(1, wanted + 1))


def _holds_object(reply: str, wanted: Mapping[str, Any]) -> bool:
    """A flat JSON object with these keys and values, alone or among other text."""
    for found in _OBJECT.findall(reply):
        try:
            data = json.loads(found)
        except json.JSONDecodeError:
            continue
        if wanted.items() <= data.items():
            return True
    return False


def _folded_words(text: str) -> list[str]:
    return [fold(word) for word in words(text)]


CHECKS: Mapping[str, Callable[[str, Any], bool]] = {
    "contains": _contains,
    "holds": _holds,
    "starts_with": _starts_with,
    "ends_with": _ends_with,
    "in_order": _in_order,
    "least_words": lambda reply, wanted: len(words(reply)) >= wanted,
    "most_words": lambda reply, wanted: len(words(reply)) <= wanted,
    "numbered": _numbered,
    "bullets": lambda reply, wanted: len(_BULLET.findall(reply)) == wanted,
    "lines": lambda reply, wanted: len(reply.strip().splitlines()) == wanted,
    "least_commas": lambda reply, wanted: reply.count(",") >= wanted,
    "json": _holds_object,
}
