"""Text reduced to what a reader recognises, without case, accents, look-alikes or punctuation."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from expunge import facts
from expunge.erasures.disguises import as_meant
from expunge.erasures.lookalikes import plain

TITLES = frozenset(
    facts.words("mr mrs ms miss dr prof professor sir madam lord lady jr sr ii iii iv phd md esq st")
)
_POSSESSIVE = re.compile(r"(?<=\w)['’ʼ‘`´]s?(?!\w)")
_TOKEN = re.compile(r"[^\W_]+")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_SENTENCE_END = re.compile(r"[.!?;:\n\r]")
_OPENING = re.compile(r"[.!?;:\n\r\"“”„«(]")


@dataclass(frozen=True)
class FoldedText:
    """The words of a text, in order, in parallel tuples.

    Attributes:
        words: casefolded, without accents; a possessive ending is dropped.
        named: the word begins with a capital where a sentence does not begin, so it may be a name.
        capital: the word begins with a capital.
        sentence: number of the sentence that the word stands in.
        pieces: place of a word with capitals or digits inside → what it is made of, and all its letters.
    """

    words: tuple[str, ...]
    named: tuple[bool, ...]
    capital: tuple[bool, ...]
    sentence: tuple[int, ...]
    pieces: Mapping[int, tuple[str, ...]]


def readings(text: str) -> Iterator[FoldedText]:
    """`text` folded as it is written and, where that differs, as it is meant (`disguises.py`)."""
    shown = _unescaped(text)
    yield fold(shown)
    meant = as_meant(shown)
    if meant is not None:
        yield fold(meant)


def fold(text: str) -> FoldedText:
    """The words of `text`: NFKD, no accents or invisible characters, look-alikes made Latin, casefolded."""
    shown = _POSSESSIVE.sub(" ", text if text.isascii() else plain(text))
    shouting = shown.isupper()
    words: list[str] = []
    named: list[bool] = []
    capital: list[bool] = []
    sentence: list[int] = []
    pieces: dict[int, tuple[str, ...]] = {}
    number, end = 0, 0
    for match in _TOKEN.finditer(shown):
        gap = shown[end : match.start()]
        abbreviated = bool(words) and gap == ". " and (words[-1] in TITLES or len(words[-1]) == 1)
        if words and not abbreviated and _SENTENCE_END.search(gap):
            number += 1
        token = match.group()
        opens = not words or (not abbreviated and _OPENING.search(gap) is not None)
        if not (token.isalpha() and token[1:].islower()) and _is_made_up(token):
            pieces[len(words)] = _pieces(token)
        words.append(token.casefold())
        capital.append(token[0].isupper())
        named.append(capital[-1] and not opens and not shouting)
        sentence.append(number)
        end = match.end()
    return FoldedText(tuple(words), tuple(named), tuple(capital), tuple(sentence), pieces)


def _unescaped(text: str) -> str:
    """`text` with HTML's entities as characters, also where '&' is itself written as one."""
    return html.unescape(html.unescape(text)) if "&" in text else text


def _is_made_up(token: str) -> bool:
    if token.isalpha():
        return token.isascii() and not (token.isupper() or token.islower())
    return not token.isdigit()


def _pieces(token: str) -> tuple[str, ...]:
    letters = "".join(char for char in token if char.isalpha())
    found = dict.fromkeys(piece.casefold() for piece in _PIECE.findall(token))
    return (*found, letters.casefold()) if len(letters) < len(token) else tuple(found)
