"""How telling an English word is: ordinary words weigh little, rare ones and names weigh 1."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from importlib.resources import files

from expunge import facts

# Words that wrap a question without saying what it is about.
ASKING_WORDS = frozenset(
    facts.words(
        """answer ask asked bit curious could curiously exactly explain find give guess hello help hey hi just
        kindly know let like maybe me need okay please possibly question quick quickly really remember
        remind say short tell thank thanks think us want wonder wondering would yes"""
    )
)
_ENDINGS = ("ingly", "edly", "ings", "ing", "ies", "ied", "ers", "est", "ed", "es", "ly", "er", "s", "e", "y")


@cache
def common_words() -> dict[str, int]:
    """Ordinary lower-case English words and their rank, commonest first (`data/common_words.json`)."""
    return {word: rank for rank, word in enumerate(_listed("common_words.json"))}


@cache
def known_names() -> frozenset[str]:
    """Words that everyone knows with a capital: places, frequent names (`data/known_names.json`)."""
    return frozenset(_listed("known_names.json"))


def _listed(file: str) -> list[str]:
    text = (files("expunge.erasures") / "data" / file).read_text(encoding="utf-8")
    return " ".join(json.loads(text)["words"]).split()


def is_common(word: str) -> bool:
    """Whether `word` is ordinary in lower case, so that it takes a capital to be read as a name."""
    return word in facts.FUNCTION_WORDS or word in common_words()


def is_content(word: str) -> bool:
    """Whether `word` says what a question is about."""
    return word not in facts.FUNCTION_WORDS and word not in ASKING_WORDS and len(word) > 1


def telling_weight(word: str) -> float:
    """(rank / listed words)^0.4 for an ordinary word, at least .1; 1 for all others."""
    ranks = common_words()
    rank = ranks.get(word)
    return 1.0 if rank is None else max(0.1, (rank / len(ranks)) ** 0.4)


@lru_cache(maxsize=8192)
def content_stem(word: str) -> tuple[str, float] | None:
    """Stem and weight of a word that says what a question is about; None for one that does not."""
    return (stem(word), telling_weight(word)) if is_content(word) else None


def stem(word: str) -> str:
    """`word` without its grammatical ending: 'lives', 'living' and 'lived' are one word."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 4 and word[-1] == word[-2] else word
