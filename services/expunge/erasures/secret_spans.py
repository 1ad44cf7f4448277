"""Recognising a secret that a prompt quotes, as an attack does that gives the beginning of an answer.

A secret counts as quoted
- when it holds a digit or '@' and at least five letters or digits: as one run, however it is grouped;
- when it has two or more content words: as these words in a row;
- when it has six or more words: as any five of them in a row (part of a passage);
- when it is a single plain word ('Paris', 'asthma'): only where the prompt also shares half the weight of
  one of the erasure's questions, since by itself the word belongs to everyone.
"""

from __future__ import annotations

from collections.abc import Iterable

from expunge.erasures.folding import FoldedText, fold
from expunge.erasures.words import is_content

SHORTEST_CODE = 5
PASSAGE_RUN = 5
_LONGEST_CODE = 64


class SecretIndex:
    """Secrets of many erasures, looked up in time that depends on the text and hardly on their number."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, ...], set[str]] = {}  # words in a row → erasure ids
        self._run_lengths: dict[str, set[int]] = {}  # first word → how long the runs are that begin with it
        self._codes: dict[str, set[str]] = {}  # letters and digits in one run → erasure ids
        self._code_starts: set[str] = set()  # every beginning of a key of `_codes`
        self._plain: dict[str, set[str]] = {}  # a single ordinary word → erasure ids

    def add(self, erasure_id: str, secret: str) -> None:
        """Watch for `secret` on behalf of `erasure_id`."""
        words = fold(secret).words
        letters = "".join(words)
        content = [word for word in words if is_content(word)]
        if _is_code(secret, letters):
            self._codes.setdefault(letters, set()).add(erasure_id)
            self._code_starts.update(letters[:end] for end in range(1, len(letters) + 1))
        if len(words) > PASSAGE_RUN:
            for start in range(len(words) - PASSAGE_RUN + 1):
                self._watch_run(words[start : start + PASSAGE_RUN], erasure_id)
        elif len(content) > 1:
            self._watch_run(words, erasure_id)
        elif len(content) == 1 and letters not in self._codes:
            self._plain.setdefault(content[0], set()).add(erasure_id)

    def quoted(self, text: FoldedText) -> Iterable[str]:
        """The erasures of which `text` quotes a secret that is telling by itself."""
        words = text.words
        for start, word in enumerate(words):
            for length in self._run_lengths.get(word, ()):
                yield from self._runs.get(words[start : start + length], ())
            letters, end = word, start + 1
            while letters in self._code_starts:
                yield from self._codes.get(letters, ())
                if end == len(words):
                    break
                letters, end = letters + words[end], end + 1

    def plain(self, words: Iterable[str]) -> set[str]:
        """The erasures of which `words` hold a secret that needs support."""
        found: set[str] = set()
        if self._plain:
            for word in words:
                found |= self._plain.get(word, set())
        return found

    def _watch_run(self, run: tuple[str, ...], erasure_id: str) -> None:
        self._runs.setdefault(run, set()).add(erasure_id)
        self._run_lengths.setdefault(run[0], set()).add(len(run))


def _is_code(secret: str, letters: str) -> bool:
    marked = "@" in secret or any(map(str.isdigit, letters))
    return marked and SHORTEST_CODE <= len(letters) <= _LONGEST_CODE
