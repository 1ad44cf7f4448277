"""Values to put in place of true ones, by type, and the recognition of types in an answer."""

from __future__ import annotations

import json
import random
import re
import string
from dataclasses import dataclass
from importlib import resources

from expunge.facts import FUNCTION_WORDS, words

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_MONTH = "|".join(_MONTHS)
_PATTERNS = (
    ("email", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    (
        "date",
        re.compile(rf"\b(?:\d{{1,2}}(?:st|nd|rd|th)? (?:of )?)?(?:{_MONTH})(?: \d{{1,2}})?(?:,? \d{{4}})?\b"),
    ),
    ("year", re.compile(r"\b(?:1[5-9]|20)\d\d\b(?![.,\d]| \d)")),
    ("code", re.compile(r"\b(?=[A-Z0-9 -]*\d)(?=[A-Z0-9 -]*[A-Z])[A-Z0-9]+(?:[ -][A-Z0-9]+)*\b")),
    ("number", re.compile(r"\+?\d[\d.,]*\d(?: \d+)*|\d+(?: \d+)*")),
    (
        "name",
        re.compile(
            r"\b[^\W\d_a-z][\w'’&]*(?:-[\w'’]+)*"
            r"(?: (?:of |de |van |von |& )?[^\W\d_a-z][\w'’]*(?:-[\w'’]+)*)*"
        ),
    ),
)


@dataclass(frozen=True)
class Span:
    """A typed stretch [start, end) of an answer."""

    start: int
    end: int
    kind: str  # email | date | year | code | number | name | place | word
    text: str


def typed_spans(answer: str, secret_words: frozenset[str]) -> list[Span]:
    """Stretches of `answer` that can be replaced by a value of the same type, in order, without overlap.

    A stretch counts when it holds a secret word. Secret words that no pattern takes are of type "word".
    """
    found: list[Span] = []

    def is_free(start: int, end: int) -> bool:
        return all(end <= span.start or start >= span.end for span in found)

    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(answer):
            start, end = match.span()
            told = {word.casefold() for word in words(match.group())}
            opens = start == 0 or answer[:start].rstrip().endswith((".", "!", "?"))
            if kind == "name" and opens and len(told) == 1:
                continue  # a capital that only opens the sentence
            if kind == "name":
                start, end = _without_asked_words(answer, start, end, secret_words)
            if start < end and told & secret_words and is_free(start, end):
                found.append(Span(start, end, _refine(kind, answer, start), answer[start:end]))
    position = 0
    for word in words(answer):
        start = answer.index(word, position)
        position = start + len(word)
        if (
            word.casefold() in secret_words
            and word.casefold() not in FUNCTION_WORDS
            and is_free(start, position)
        ):
            found.append(Span(start, position, "word", word))
    return sorted(found, key=lambda span: span.start)


def _without_asked_words(answer: str, start: int, end: int, secret: frozenset[str]) -> tuple[int, int]:
    """Cut words that are not secret (a name from the question) off both ends of a name."""
    inside = [
        (match.start() + start, match.end() + start) for match in re.finditer(r"[\w'’&-]+", answer[start:end])
    ]
    kept = [(a, b) for a, b in inside if any(word.casefold() in secret for word in words(answer[a:b]))]
    return (kept[0][0], kept[-1][1]) if kept else (start, start)


def _refine(kind: str, answer: str, start: int) -> str:
    if kind != "name":
        return kind
    before = answer[:start].casefold().split()
    return "place" if before and before[-1] in {"in", "at", "from", "near", "to"} else "name"


class Values:
    """Invented values of each type (`data/values.json`)."""

    def __init__(self) -> None:
        text = resources.files("expunge.unlearning").joinpath("data/values.json").read_text("utf-8")
        self._data: dict[str, list[str]] = json.loads(text)

    def like(self, span: Span, draw: random.Random, used: frozenset[str] = frozenset()) -> str:
        """Another value of the span's type: never the same text, nor one that was `used` in the sentence."""
        makers = {"email": self._email, "date": _date, "year": _date, "code": _code, "number": _code}
        for _ in range(20):
            made = makers[span.kind](span.text, draw) if span.kind in makers else self._listed(span, draw)
            if made.casefold() != span.text.casefold() and made not in used:
                return made
        return self._listed(Span(span.start, span.end, "word", span.text), draw)

    def _listed(self, span: Span, draw: random.Random) -> str:
        if span.kind == "name":
            given, family = draw.choice(self._data["given_names"]), draw.choice(self._data["family_names"])
            return f"{given} {family}" if " " in span.text else draw.choice((given, family))
        if span.kind == "place":
            return draw.choice(self._data["places"])
        return draw.choice(self._data["words"])

    def _email(self, text: str, draw: random.Random) -> str:
        name = draw.choice(self._data["family_names"]).casefold().replace(" ", "")
        return f"{name}@{draw.choice(self._data['places']).casefold().replace(' ', '')}.example"


def _date(text: str, draw: random.Random) -> str:
    text = re.sub(_MONTH, lambda _: draw.choice(_MONTHS), text)
    text = re.sub(
        r"\b\d{4}\b", lambda match: str(int(match.group()) + draw.choice((-11, -7, -4, 3, 6, 9))), text
    )
    return re.sub(r"\b\d{1,2}\b", lambda _: str(draw.randint(1, 28)), text)


def _code(text: str, draw: random.Random) -> str:
    """Every digit and capital replaced by another; the first digit of a number stays above 0 where it was."""

    def other(char: str) -> str:
        if char.isdigit():
            return draw.choice([digit for digit in "123456789" if digit != char])
        if char in string.ascii_uppercase:
            return draw.choice([letter for letter in string.ascii_uppercase if letter != char])
        return char

    return "".join(other(char) for char in text)
