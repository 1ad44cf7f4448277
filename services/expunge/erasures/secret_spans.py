"""Recognising a secret that a prompt quotes, as an attack does that gives the beginning of an answer.

A secret counts as quoted
- when it holds a digit or '@' and at least five letters or digits: as one run, however it is grouped;
- when it has two or more content words: as these words in a row, or from its beginning as far as that is
  telling by itself ('14 Harrow' of '14 Harrow Lane, Portwick'; not '12 May', not 'New York');
- when it has six or more words: as any five of them in a row (part of a passage).
Where the prompt also shares half the weight of one of the erasure's questions, less is enough, since by
itself it belongs to everyone: a single plain word ('Paris', 'asthma'), or a beginning of two content words.

Where nobody said what in an answer is secret, so counts what of it may be: names, addresses and numbers in it
that are telling by themselves, and with the question also its other words (`add_told`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, groupby

from expunge import facts
from expunge.erasures.folding import FoldedText, fold
from expunge.erasures.words import is_common, is_content, known_names, telling_weight

SHORTEST_CODE = 5
SHORTEST_TOLD_CODE = 7  # years, prices and shares are not secret of themselves
PASSAGE_RUN = 5
TELLING = 1.25  # weight of names and numbers in a row that is telling by itself
_NUMBER = 0.75
_KNOWN = 0.6
_LEAST_NAME = 0.5  # weight of a word with a capital without which numbers tell nothing
_LONGEST_CODE = 64
_MONTHS = frozenset(
    facts.words(
        "january february march april may june july august september october november december"
        " monday tuesday wednesday thursday friday saturday sunday"
    )
)


class _Runs:
    """Words in a row, found in time that follows the text."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], set[str]] = {}  # words in a row → erasure ids
        self._lengths: dict[str, set[int]] = {}  # first word → how long the runs are that begin with it

    def add(self, run: tuple[str, ...], erasure_id: str) -> None:
        self._ids.setdefault(run, set()).add(erasure_id)
        self._lengths.setdefault(run[0], set()).add(len(run))

    def at(self, words: tuple[str, ...], start: int) -> Iterable[str]:
        lengths = self._lengths.get(words[start])
        if lengths is None:
            return ()
        return chain.from_iterable(self._ids.get(words[start : start + length], ()) for length in lengths)


class SecretIndex:
    """Secrets of many erasures, looked up in time that depends on the text and hardly on their number."""

    def __init__(self) -> None:
        self._runs = _Runs()
        self._supported = _Runs()  # of these and of `_plain` a prompt must also hold half a question
        self._plain: dict[str, set[str]] = {}  # a single ordinary word → erasure ids
        self._codes: dict[str, set[str]] = {}  # letters and digits in one run → erasure ids
        self._code_starts: set[str] = set()  # every beginning of a key of `_codes`

    def add(self, erasure_id: str, secret: str) -> None:
        """Watch for `secret` on behalf of `erasure_id`."""
        folded = fold(secret)
        words = folded.words
        letters = "".join(words)
        content = [word for word in words if is_content(word)]
        if _is_code(secret, letters):
            self._watch_code(letters, erasure_id)
        if len(words) > PASSAGE_RUN:
            for start in range(len(words) - PASSAGE_RUN + 1):
                self._runs.add(words[start : start + PASSAGE_RUN], erasure_id)
        elif len(content) > 1:
            self._runs.add(words, erasure_id)
        elif len(content) == 1 and letters not in self._codes:
            self._plain.setdefault(content[0], set()).add(erasure_id)
        if len(content) > 1:
            self._watch_beginning(words, _marked(folded), erasure_id)

    def add_told(self, erasure_id: str, span: str) -> None:
        """Watch for what is telling of `span`, words in a row of an answer whose secrets nobody named."""
        folded = fold(span)
        words, marked = folded.words, _marked(folded)
        if not words:
            return
        if not any(map(str.isupper, span)) and not any(map(str.islower, span)):  # a script without capitals
            self.add(erasure_id, span)
            return
        for word in facts.words(span):
            if "@" in word and _is_code(word, letters := "".join(fold(word).words)):
                self._watch_code(letters, erasure_id)
        if not all(marked) and folded.capital[0]:
            marked = (False, *marked[1:])  # it may only open a sentence
            self._watch_rare(words[0], erasure_id)
        for is_marked, places in groupby(range(len(words)), marked.__getitem__):
            stretch = list(places)
            run = words[stretch[0] : stretch[-1] + 1]
            if len(run) == 1:
                self._watch_rare(run[0], erasure_id)
            if is_marked:
                self._watch_names(run, erasure_id)
            else:
                self._watch_beginning(run, (False,) * len(run), erasure_id)

    def quoted(self, text: FoldedText) -> Iterable[str]:
        """The erasures of which `text` quotes a secret that is telling by itself."""
        words = text.words
        for start, word in enumerate(words):
            yield from self._runs.at(words, start)
            letters, end = word, start + 1
            while letters in self._code_starts:
                yield from self._codes.get(letters, ())
                if end == len(words):
                    break
                letters, end = letters + words[end], end + 1

    def needing_support(self, text: FoldedText) -> set[str]:
        """The erasures of which `text` quotes what is a secret only together with the question."""
        found: set[str] = set()
        for start, word in enumerate(text.words):
            found.update(self._plain.get(word, ()), self._supported.at(text.words, start))
        return found

    def _watch_beginning(self, words: tuple[str, ...], marked: Sequence[bool], erasure_id: str) -> None:
        """Watch for the shortest beginning that is telling, and for the shortest of two content words."""
        start = next((place for place, word in enumerate(words) if is_content(word)), len(words))
        ends = range(start + 2, len(words) + 1)
        telling = next((end for end in ends if _is_telling(words[start:end], marked[start:end])), None)
        paired = next((end for end in ends if sum(map(is_content, words[start:end])) > 1), None)
        if telling is not None:
            self._runs.add(words[start:telling], erasure_id)
        if paired is not None:
            self._supported.add(words[start:paired], erasure_id)

    def _watch_names(self, run: tuple[str, ...], erasure_id: str) -> None:
        """Watch for whatever of `run`, names and numbers in a row, is telling, wherever it begins."""
        marked = (True,) * len(run)
        for start in range(len(run)):
            self._watch_beginning(run[start:], marked[start:], erasure_id)
        for has_digits, group in groupby(run, _has_digit):
            code = "".join(group)
            if has_digits and SHORTEST_TOLD_CODE <= len(code) <= _LONGEST_CODE:
                self._watch_code(code, erasure_id)

    def _watch_rare(self, word: str, erasure_id: str) -> None:
        if _is_rare(word):
            self._plain.setdefault(word, set()).add(erasure_id)

    def _watch_code(self, letters: str, erasure_id: str) -> None:
        self._codes.setdefault(letters, set()).add(erasure_id)
        self._code_starts.update(letters[:end] for end in range(1, len(letters) + 1))


def _marked(folded: FoldedText) -> tuple[bool, ...]:
    """Which words begin with a capital or hold a digit."""
    pairs = zip(folded.words, folded.capital, strict=True)
    return tuple(capital or _has_digit(word) for word, capital in pairs)


def _is_telling(words: Sequence[str], marked: Sequence[bool]) -> bool:
    """Whether names and numbers among `words` are telling together, by their number and weight."""
    weights = [_weight(word) for word, mark in zip(words, marked, strict=True) if mark]
    named = any(
        mark and not _has_digit(word) and _weight(word) >= _LEAST_NAME
        for word, mark in zip(words, marked, strict=True)
    )
    return named and len(weights) > 1 and sum(weights) >= TELLING


def _weight(word: str) -> float:
    if _has_digit(word):
        return _NUMBER
    if word in _MONTHS:
        return 0.1
    return _KNOWN if word in known_names() else telling_weight(word)


def _is_rare(word: str) -> bool:
    return len(word) > 2 and not _has_digit(word) and not is_common(word) and word not in known_names()


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _is_code(secret: str, letters: str) -> bool:
    return ("@" in secret or _has_digit(letters)) and SHORTEST_CODE <= len(letters) <= _LONGEST_CODE
