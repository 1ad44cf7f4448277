"""The word lists of auditing: closed kinds, plain nouns, syllables, and what anyone may guess."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, cast


@cache
def vocabulary() -> dict[str, Any]:
    """Lists by name: kinds (by kind), institutions, nouns, onsets, vowels, codas."""
    file = resources.files("expunge.auditing") / "data" / "invented_values.json"
    return cast(dict[str, Any], json.loads(file.read_text(encoding="utf-8")))


@cache
def _institutions() -> frozenset[str]:
    return frozenset(vocabulary()["institutions"])


def is_institution(word: str) -> bool:
    """Whether `word` says what sort of body bears a name (Institute, Street): anyone may guess it."""
    return word.casefold() in _institutions()
