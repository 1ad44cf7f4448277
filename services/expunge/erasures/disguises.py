"""Text as it is meant where mark-up, symbols or hidden characters break up its words.

It is a second reading beside the text as written: each of the two shows what the other hides.
"""

from __future__ import annotations

import re

_HIDDEN_ASCII = {0xE0000 + code: code for code in range(0x20, 0x7F)}  # Unicode's tag characters
_MARK_UP = re.compile(r"</?[A-Za-z][^<>]{0,200}>|<!--.{0,200}?-->", re.DOTALL)
_ASSIGNMENT = re.compile(r"\b[A-Za-z]\w{0,15}\s{0,3}:?=\s{0,3}")  # 'x = ' before a piece of a name
_SYMBOL = re.compile(r"[@$€](?=[^\W\d_])|(?<=[^\W\d_])(?:[@$€]|[!|£+](?=[^\W\d_@$€]))")
_AS_DIGITS = str.maketrans("@$€!|£+", "4531117")  # read as letters where digits are


def as_meant(text: str) -> str | None:
    """`text` without tags and assignments, with tag characters shown and symbols in words as digits.

    None where that changes nothing.
    """
    meant = text if text.isascii() else text.translate(_HIDDEN_ASCII)
    if "<" in meant:
        meant = _MARK_UP.sub("", meant)
    if "=" in meant:
        meant = _ASSIGNMENT.sub("", meant)
    meant = _SYMBOL.sub(lambda symbol: symbol[0].translate(_AS_DIGITS), meant)
    return None if meant == text else meant
