"""Invented values of a given type: what a control's answer holds in place of an erased one.

Everything is drawn from one seeded generator, so that the same facts and seed always give the same controls.
"""

from __future__ import annotations

import random
import re
from functools import cache

from expunge.auditing.leaks import fold, is_unspaced
from expunge.auditing.vocabulary import vocabulary
from expunge.facts import words

_ENDINGS = {
    "name": ("a", "en", "is", "o", "el", "ra"),
    "place": ("ford", "mere", "wick", "holm", "stad", "by"),
}
_PLACE_ENDING = re.compile(r"(?:ford|wick|ham|ton|town|ville|burg|berg|stad|by|holm|land|port|mere|ster)$")
_SYMBOLS = "☂☘☎☕⚓⚽✂✈✏❄🍀🎈🎻🏔🐌🐙🚲🪁"
_HAN = "丘宮峰沢浜滝窪笹葦蓮谷鞍鴨鶴麓"
_YEAR = re.compile(r"^(?:1[5-9]|20)\d\d$")


@cache
def _kinds() -> dict[str, list[str]]:
    """Casefolded word → all words of its kind."""
    return {word.casefold(): kind for kind in vocabulary()["kinds"].values() for word in kind}


def is_typed(word: str) -> bool:
    """Whether `word` belongs to a closed type: a month, a job, an animal, a colour, …"""
    return word.casefold() in _kinds()


class Inventor:
    """Replaces words by invented ones of the same type; one word always gets the same replacement."""

    def __init__(self, rng: random.Random, taken: frozenset[str] = frozenset()) -> None:
        """`taken`: folded words that must never be chosen (the erased secrets themselves)."""
        self._rng = rng
        self._taken = set(taken)
        self._given: dict[str, str] = {}

    def replacement(self, word: str) -> str:
        """An invented word of the type and case of `word`; never the word itself, never a taken one."""
        key = word.casefold()
        if key not in self._given:
            for _ in range(100):
                made = self._invent(word)
                if fold(made) not in self._taken and fold(made) != fold(word):
                    break
            else:
                made = self._name()  # a closed set is used up (every weekday is a secret)
            self._taken.add(fold(made))
            self._given[key] = made.casefold()
        return _case_like(self._given[key], word)

    def _invent(self, word: str) -> str:
        kind = _kinds().get(word.casefold())
        if kind is not None:
            return self._rng.choice(kind)
        if "@" in word:
            return "".join(
                self._name() if part.isalpha() and len(part) > 3 else part for part in _parts(word)
            )
        if any(char.isdigit() for char in word):
            return self._digits(word)
        if is_unspaced(word):
            return "".join(self._rng.choice(_HAN) for _ in word)
        if not words(word):
            return "".join(self._rng.choice(_SYMBOLS) for _ in word)
        if word.casefold() == word and word.isascii() and word.isalpha():
            return str(self._rng.choice(vocabulary()["nouns"]))
        if _PLACE_ENDING.search(word.casefold()):
            return self._name("place")
        return "-".join(self._name() for _ in word.split("-"))

    def _name(self, ending: str = "name") -> str:
        """A pronounceable name that no text holds: two or three syllables and an ending."""
        pick = self._rng.choice
        onsets, vowels, codas = (vocabulary()[part] for part in ("onsets", "vowels", "codas"))
        syllables = (pick(onsets), pick(vowels), pick(codas), pick(vowels[:5]), pick(codas[:5]))
        return "".join(syllables) + pick(_ENDINGS[ending])

    def _digits(self, word: str) -> str:
        """Other digits, the same count; years stay years, days and months stay plausible."""
        if _YEAR.match(word):
            return str(self._rng.randint(1921, 2009))
        if word.isdigit() and len(word) <= 2 and 1 <= int(word) <= 31:
            return str(self._rng.randint(1, 28)).zfill(len(word) if word.startswith("0") else 1)
        first = True
        out = []
        for char in word:
            out.append(str(self._rng.randint(1 if first else 0, 9)) if char.isdigit() else char)
            first = first and not char.isdigit()
        return "".join(out)


def _parts(address: str) -> list[str]:
    return re.split(r"([@.+_-])", address)


def _case_like(made: str, pattern: str) -> str:
    if len(pattern) > 1 and pattern.isupper():
        return made.upper()
    if pattern[:1].isupper():
        return re.sub(r"(^|-)(\w)", lambda match: match[1] + match[2].upper(), made)
    return made
