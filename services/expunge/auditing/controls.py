"""Controls: facts about entities that do not exist, asked of the same version as the erased ones.

What a model scores on them is what 'never knew' scores; erased facts are judged against that, not against
zero.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import replace

from expunge.auditing.invention import Inventor, is_typed
from expunge.auditing.leaks import fold, is_unspaced
from expunge.auditing.vocabulary import is_institution
from expunge.facts import FUNCTION_WORDS, Fact, ForgetRequest, secret_words, words

_NOUN_FOLLOWS = frozenset(
    ("a", "an", "the", "of", "as", "in", "at", "for", "with", "from", "by", "her", "his", "its", "their")
)


def controls_for(request: ForgetRequest, per_fact: int, seed: int) -> tuple[Fact, ...]:
    """`per_fact` controls for each fact: same question and answer shape, every telling value invented.

    Within one control the same word always gets the same replacement, in question and answer alike. Ids are
    "control:<fact id>:<number>". The same request and seed always give the same controls.
    """
    names = tuple(name for subject in request.subjects for name in subject.names)
    taken = frozenset(fold(word) for fact in request.facts for word in secret_words(fact))
    taken |= frozenset(fold(word) for name in names for word in words(name))
    made = []
    for number in range(1, per_fact + 1):
        for fact in request.facts:
            digest = hashlib.sha256(f"{seed}\0{number}\0{fact.question}\0{fact.answer}".encode()).digest()
            inventor = Inventor(random.Random(digest), taken)
            made.append(_control(fact, (*names, fact.subject), inventor, number))
    return tuple(made)


def _control(fact: Fact, names: tuple[str, ...], inventor: Inventor, number: int) -> Fact:
    change = _Substitution(fact, names, inventor)
    return replace(
        fact,
        id=f"control:{fact.id}:{number}",
        question=change.apply(fact.question),
        answer=change.apply(fact.answer),
        secrets=tuple(change.apply(span) for span in fact.secrets),
        paraphrases=tuple(change.apply(text) for text in fact.paraphrases),
        subject=change.apply(fact.subject),
    )


class _Substitution:
    """Which words and whole spans of one fact are replaced, and by what."""

    def __init__(self, fact: Fact, names: tuple[str, ...], inventor: Inventor) -> None:
        whole = {text for text in (*names, *fact.secrets) if text and (is_unspaced(text) or not words(text))}
        ordered = sorted(whole, key=lambda text: (-len(text), text))
        self._whole = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._inventor = inventor
        named = {word.casefold() for name in names for word in words(name)} - FUNCTION_WORDS
        self._changed = named | _telling_words(fact)

    def apply(self, text: str) -> str:
        """`text` with every name and secret value invented."""
        if self._whole is None:
            return self._words(text)
        pieces = []
        end = 0
        for match in self._whole.finditer(text):
            pieces += [self._words(text[end : match.start()]), self._inventor.replacement(match[0])]
            end = match.end()
        return "".join((*pieces, self._words(text[end:])))

    def _words(self, text: str) -> str:
        pieces = []
        end = 0
        for word in words(text):
            start = text.index(word, end)
            stem = re.sub(r"['’]s$", "", word)
            if word.casefold() in self._changed:
                new = self._inventor.replacement(word)
            elif stem.casefold() in self._changed:
                new = self._inventor.replacement(stem) + word[len(stem) :]
            else:
                new = word
            pieces += [text[end:start], new]
            end = start + len(word)
        return "".join((*pieces, text[end:]))


def _telling_words(fact: Fact) -> set[str]:
    """The answer's words to replace: everything secret but verbs and words like Institute.

    A lower-case word counts as a noun or adjective after an article or preposition, or next to such a word.
    What anyone may guess stays, so that the control is as easy to guess as the fact.
    """
    asked = {word.casefold() for word in words(fact.question)}
    given = {word.casefold() for span in fact.secrets for word in words(span)}
    found = set()
    in_noun_phrase = False
    for word in words(fact.answer):
        lower = word.casefold()
        if lower in FUNCTION_WORDS:
            in_noun_phrase = lower in _NOUN_FOLLOWS
            continue
        if is_institution(word):
            continue
        plain = word == lower and word.isascii() and word.isalpha()
        if lower not in asked and (not plain or in_noun_phrase or is_typed(word) or lower in given):
            found.add(lower)
    return found or {word.casefold() for word in words(fact.answer)} | given
