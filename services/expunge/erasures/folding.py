"""Text reduced to what a reader recognises, without case, accents, look-alikes or punctuation."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from expunge import facts

# Letters that look like Latin ones, and Latin letters that no normal form takes apart.
_CYRILLIC = ("АВЕЅІЈКМНОРСТУХӀаеѕіјкморсухһӏԛԝпгтвн", "ABESIJKMHOPCTYXIaesijkmopcyxhlqwnrtbh")
_GREEK = ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαεικνορτυχγ", "ABEZHIKMNOPTYXaeikvoptuxy")
_LATIN = ("øØłŁđĐıħŧɡɩ", "oOlLdDihtgi")
_LIGATURES = {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "þ": "th", "Þ": "Th", "ð": "d", "Ð": "D"}
_LOOKALIKES = str.maketrans(
    {
        look: letter
        for looks, letters in (_CYRILLIC, _GREEK, _LATIN)
        for look, letter in zip(looks, letters, strict=True)
    }
    | _LIGATURES
)
_DISGUISED = re.compile(  # letters in other dress that no normal form takes apart
    r"(?:LATIN LETTER SMALL CAPITAL|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER"
    r"|REGIONAL INDICATOR SYMBOL LETTER) ([A-Z])"
)
_DRESSES = ((0x0250, 0x02AF), (0x1D00, 0x1D7F), (0xA730, 0xA7FF), (0x1F150, 0x1F1FF))
_LOOKALIKES |= {
    code: match[1].lower()
    for first, last in _DRESSES
    for code in range(first, last + 1)
    if (match := _DISGUISED.fullmatch(unicodedata.name(chr(code), "")))
}
_LOOKALIKES |= dict.fromkeys(map(ord, "\u115f\u1160"), "")  # letters that nobody sees
TITLES = frozenset(
    facts.words("mr mrs ms miss dr prof professor sir madam lord lady jr sr ii iii iv phd md esq st")
)
_POSSESSIVE = re.compile(r"(?<=\w)['’ʼ‘`´]s?(?!\w)")
_TOKEN = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?;:\n\r]")
_OPENING = re.compile(r"[.!?;:\n\r\"“”„«(]")


@dataclass(frozen=True)
class FoldedText:
    """The words of a text, in order, in parallel tuples.

    Attributes:
        words: casefolded, without accents; a possessive ending is dropped.
        named: the word begins with a capital where a sentence does not begin, so it may be a name.
        sentence: number of the sentence that the word stands in.
    """

    words: tuple[str, ...]
    named: tuple[bool, ...]
    sentence: tuple[int, ...]


def fold(text: str) -> FoldedText:
    """The words of `text`: NFKD, no accents or invisible characters, look-alikes made Latin, casefolded."""
    plain = _POSSESSIVE.sub(" ", text if text.isascii() else _plain(text))
    shouting = plain.isupper()
    words: list[str] = []
    named: list[bool] = []
    sentence: list[int] = []
    number, end = 0, 0
    for match in _TOKEN.finditer(plain):
        gap = plain[end : match.start()]
        abbreviated = bool(words) and gap == ". " and (words[-1] in TITLES or len(words[-1]) == 1)
        if words and not abbreviated and _SENTENCE_END.search(gap):
            number += 1
        token = match.group()
        opens = not words or (not abbreviated and _OPENING.search(gap) is not None)
        words.append(token.casefold())
        named.append(token[0].isupper() and not opens and not shouting)
        sentence.append(number)
        end = match.end()
    return FoldedText(tuple(words), tuple(named), tuple(sentence))


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    kept = "".join(char for char in decomposed if unicodedata.category(char) not in ("Mn", "Cf"))
    return kept.translate(_LOOKALIKES)
