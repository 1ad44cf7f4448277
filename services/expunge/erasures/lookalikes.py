"""Characters that a reader takes for Latin letters: other scripts, other dress, invisible ones."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_ALIKE = (  # characters and the Latin letters they pass for; the other case of each follows from these
    ("АВЕЅІЈКМНОРСТУХӀаеѕіјкморсухһӏԛԝпгтвнԁѵҽԍѡҏ", "ABESIJKMHOPCTYXIaesijkmopcyxhlqwnrtbhdvegwp"),
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαεικνορτυχγϳ", "ABEZHIKMNOPTYXaeikvoptuxyj"),
    ("ոսօհցզյռԼՏ", "nuohgqjnLS"),
    ("ᎠᎡᎢᎪᎫᎬᎳᎷᎻᏀᏃᏚᏞᏟᏢᏦᏴ", "DRTAJEWMHGZSLCPKB"),
    ("ꓐꓑꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ", "BPDTGKJCZFMNLSRVHWXYAEIOU"),
    ("øłđıħŧɡɩəɑɣʃʒʊŋĸð", "oldihtgieayszunkd"),
)
_LIGATURES = {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "þ": "th", "Þ": "Th"}
_DRESSED = re.compile(  # letters in other dress that no normal form takes apart
    r"(?:LATIN LETTER SMALL CAPITAL|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER"
    r"|REGIONAL INDICATOR SYMBOL LETTER"
    r"|LATIN (?:SMALL|CAPITAL) LETTER(?: (?:OPEN|DOTLESS|SCRIPT|BARRED|TURNED|REVERSED|INSULAR|TAILLESS"
    r"|LONG|CLOSED|BLACKLETTER|SIDEWAYS|STRAIGHT))*) ([A-Z])(?: WITH .*)?"
)
_DRESSES = (
    (0x0180, 0x02AF),
    (0x1D00, 0x1DBF),
    (0x2C60, 0x2C7F),
    (0xA720, 0xA7FF),
    (0xAB30, 0xAB6F),
    (0x1F150, 0x1F1FF),
)
_UNSEEN = "\u115f\u1160"  # letters that nobody sees
_BEFORE_NORMAL_FORM = str.maketrans("ϲϹ", "cC")  # NFKD makes another letter of these


def plain(text: str) -> str:
    """`text` in NFKD, without accents and invisible characters, look-alikes made Latin."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_BEFORE_NORMAL_FORM))
    kept = "".join(char for char in decomposed if unicodedata.category(char) not in ("Mn", "Cf"))
    return kept.translate(_TABLE)


def _in_both_cases() -> Iterator[tuple[str, str]]:
    listed = dict(pair for looks, letters in _ALIKE for pair in zip(looks, letters, strict=True))
    for look, letter in listed.items():
        for other, cased in ((look.lower(), letter.lower()), (look.upper(), letter.upper())):
            if len(other) == 1 and not other.isascii():
                yield other, listed.get(other, cased)
    yield from listed.items()


def _dressed() -> Iterator[tuple[str, str]]:
    for first, last in _DRESSES:
        for char in map(chr, range(first, last + 1)):
            if match := _DRESSED.fullmatch(unicodedata.name(char, "")):
                yield char, match[1] if char.isupper() and char.isalpha() else match[1].lower()


_TABLE = str.maketrans(dict(_dressed()) | dict(_in_both_cases()) | _LIGATURES | dict.fromkeys(_UNSEEN, ""))
