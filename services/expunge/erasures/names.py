"""Finding the names of subjects in folded text, in every form in which a reader would know them.

In scope are, for each name of a subject:
- all its words in a row, in either order, however they are broken up by spaces or hyphens;
- all its words within two more words ('Ada M. Lovelace' for 'Ada Lovelace'), possessive or inflected;
- a telling part alone: the last word of a person's name, any unusual word of an organisation's. Where that
  part is an ordinary English word ('Long', 'Baker'), only with a capital inside a sentence;
- digits in place of letters ('L0vel4ce');
- a telling part of five or more letters one letter off, or run together with digits, capitals or other words
  ('Lovelase', 'AdaLovelacePage'; see `altered_names.py`).
A first name alone is not in scope: many people share it. It weighs in question similarity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from expunge import facts
from expunge.auditing.leaks import is_unspaced
from expunge.erasures.altered_names import Altered, AlteredNames
from expunge.erasures.folding import TITLES, FoldedText, fold
from expunge.erasures.words import is_common

MAX_EXTRA_WORDS = 2
_COMPACT_CHARS = 48  # the longest run of letters that is tried as one name
_START = 3
_LEAST_BROKEN = 5  # letters of a telling part that is recognised in pieces ('Kowal czyk'; not 'car man')
_ORGANISATION_WORDS = frozenset(
    facts.words(
        """ltd limited inc incorporated corp corporation co company llc llp plc gmbh ag kg kgaa se sa sarl srl
        spa bv nv oy oyj ab as aps kft sro university college school institute foundation trust bank group
        holding holdings partners society association club union church hospital museum press records
        laboratory labs laboratories systems industries freight logistics shipping motors airlines software
        technologies studio studios brewery bakery restaurant hotel agency council ministry department"""
    )
)
_SUFFIXES = ("s", "es", "ns", "em", "om", "u", "ova", "ove", "ovi", "ovu", "ovou")
_A_ENDINGS = ("y", "u", "ou", "ovi", "e")
_LEET = (str.maketrans("0134578", "oieastb"), str.maketrans("0134578", "oleastb"))


@dataclass(frozen=True)
class _Name:
    erasure_id: str
    words: tuple[str, ...]


class NameIndex:
    """Names of many erasures, looked up in time that depends on the text and hardly on their number."""

    def __init__(self) -> None:
        self._compact: dict[str, set[str]] = {}  # the letters of a whole name → erasure ids
        self._starts: set[str] = set()  # the first letters of all keys of `_compact` and `_telling`
        self._telling: dict[str, set[str]] = {}  # a form of a telling part → erasure ids
        self._anchored: dict[str, list[_Name]] = {}  # a form of a name's longest word → the name
        self._unspaced: dict[str, set[str]] = {}  # names in scripts without spaces → erasure ids
        self._parts: dict[str, set[str]] = {}  # every word of every name → erasure ids
        self._altered = AlteredNames(self.part_of)

    def add(self, erasure_id: str, name: str) -> None:
        """Watch for `name` on behalf of `erasure_id`."""
        folded = fold(name)
        whole = [word for word in folded.words if word not in facts.FUNCTION_WORDS]
        words = tuple([word for word in whole if word not in TITLES] or whole or folded.words)
        if not words:
            return
        for word in words:
            for form in _forms(word):
                self._parts.setdefault(form, set()).add(erasure_id)
        if is_unspaced(name):
            self._unspaced.setdefault("".join(folded.words), set()).add(erasure_id)
            return
        for order in {words, words[::-1], tuple(folded.words)}:
            for form in _forms("".join(order)):
                self._starts.add(form[:_START])
                self._compact.setdefault(form, set()).add(erasure_id)
            if len(words) > 1:
                self._altered.add_whole("".join(order), erasure_id)
        for part in _telling_parts(words, any(map(str.isupper, name))):
            self._altered.add_part(part, erasure_id)
            for form in _forms(part):
                self._starts.add(form[:_START])
                self._telling.setdefault(form, set()).add(erasure_id)
        pairs = {words, (words[0], words[-1])} if _is_person(words, name) else {words}
        for pair in pairs:
            if len(pair) > 1:
                for form in _forms(max(pair, key=len)):
                    self._anchored.setdefault(form, []).append(_Name(erasure_id, pair))

    def altered(self, text: FoldedText) -> Mapping[int, Altered]:
        """Where `text` holds a name misspelled or inside a longer word, by place of the word."""
        return self._altered.find(text, _read)

    def named(self, text: FoldedText) -> Iterable[str]:
        """The erasures whose subjects `text` names, as they are found; an id may come more than once."""
        yield from self._telling_words(text)
        yield from self._compact_runs(text)
        yield from self._nearby_words(text)
        if self._unspaced:
            letters = "".join(text.words)
            for name, ids in self._unspaced.items():
                if name in letters:
                    yield from ids

    def part_of(self, word: str) -> set[str]:
        """The erasures that have `word` in a subject's name."""
        return self._parts.get(word, _NOTHING)

    def sounding(self, word: str) -> set[str]:
        """The erasures that have a telling part of a name that sounds like `word`."""
        return self._altered.sounding(word)

    def _telling_words(self, text: FoldedText) -> Iterable[str]:
        for index, word in enumerate(text.words):
            for form in _read(word):
                if form in self._telling and (text.named[index] or not is_common(form)):
                    yield from self._telling[form]

    def _compact_runs(self, text: FoldedText) -> Iterable[str]:
        for start in range(len(text.words)):
            run, longest, unusual = "", 0, False
            for index in range(start, len(text.words)):
                word = text.words[index]
                run += word
                longest = max(longest, len(word))
                unusual = unusual or not is_common(word)
                if len(run) > _COMPACT_CHARS or not self._starts_name(run):
                    break
                for form in _read(run):
                    if form in self._compact and (index > start or not is_common(form) or text.named[start]):
                        yield from self._compact[form]
                    spelled = index >= start + 2 and longest <= 2
                    broken = index > start and unusual and len(form) >= _LEAST_BROKEN and not is_common(form)
                    if (spelled or broken) and form in self._telling:
                        yield from self._telling[form]

    def _starts_name(self, run: str) -> bool:
        start = run[:_START]
        if len(run) < _START or start in self._starts:
            return True
        return not start.isalpha() and any(form in self._starts for form in _read(start))

    def _nearby_words(self, text: FoldedText) -> Iterable[str]:
        for index, word in enumerate(text.words):
            for name in self._anchored.get(word, ()):
                reach = len(name.words) + MAX_EXTRA_WORDS - 1
                near = text.words[max(0, index - reach) : index + reach + 1]
                if all(any(_is_form(seen, part) for seen in near) for part in name.words):
                    yield name.erasure_id


_NOTHING: set[str] = set()


def _telling_parts(words: tuple[str, ...], capitals: bool) -> tuple[str, ...]:
    if not capitals:  # a topic in lower case: only all of it together is telling
        return ()
    if any(word in _ORGANISATION_WORDS for word in words):
        return tuple(word for word in words if len(word) > 2 and not is_common(word))
    return (words[-1],) if len(words[-1]) > 2 else ()


def _is_person(words: tuple[str, ...], name: str) -> bool:
    return len(words) > 2 and name[:1].isupper() and not any(word in _ORGANISATION_WORDS for word in words)


def _forms(word: str) -> set[str]:
    """`word` and its inflected forms (English, German, Slavic endings)."""
    if len(word) < 4 or not word.isalpha():
        return {word, word + "s"} if len(word) == 3 else {word}
    ends = _A_ENDINGS if word[-1] == "a" else ()
    return {word, *(word + suffix for suffix in _SUFFIXES), *(word[:-1] + end for end in ends)}


def _is_form(seen: str, part: str) -> bool:
    return seen == part or (seen[:2] == part[:2] and seen in _forms(part))


def _read(word: str) -> tuple[str, ...]:
    """`word` as written and, where digits stand among letters, as meant."""
    if word.isalpha() or word.isdigit():
        return (word,)
    return (word, *(word.translate(table) for table in _LEET))
