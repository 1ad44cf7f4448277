"""Telling parts of names that a text holds altered: misspelled, or inside a longer word.

A resemblance is weaker evidence than the name itself. Ordinary words and names that everyone knows
('Germany', 'Hansen') are never taken for a misspelling. By itself counts
- a resemblance to an unusual part of seven or more letters;
- one to a shorter or ordinary part: only with the same first letter, with a capital inside a sentence, and
  not beside somebody else's first name.
Any other counts beside another part of the same name, or in question similarity. Inside a longer word a part
counts where what surrounds it is no part of another name: digits, another part of the name, words that are
often run together ('mrslovelace', 'lovelaceaddress'; not 'Lancashire' for Lanca, 'Manchester' for Chester).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from expunge import facts
from expunge.erasures.folding import TITLES, FoldedText
from expunge.erasures.near_names import LEAST_LETTERS, NearNames, sounds
from expunge.erasures.words import is_common, known_names

Ids = set[str]
_NOTHING: Ids = set()
_STRONG = 7  # letters of a part that few other words resemble
_REACH = 3  # words between which parts of one name belong together
_NAME_BEGINNINGS = frozenset(facts.words("mc mac fitz van von de di del du la le st o"))
_PLACE_ENDINGS = frozenset(facts.words("field shire ville burgh stone bridge haven house court grove"))
_LEAST_APPENDED = 5  # letters of an ordinary word that is run together with a name


@dataclass(frozen=True)
class Altered:
    """The erasures to a part of whose subjects' names a word comes near.

    Attributes:
        near: those that it is near enough to to count in question similarity.
        named: those whose subject it names.
    """

    near: Ids
    named: Ids


@dataclass(frozen=True)
class _Resemblance:
    """What a word resembles: for sure, and in pairs of part and form that its surroundings decide on."""

    by_itself: Altered
    unsure: tuple[tuple[str, str], ...]


class AlteredNames:
    """Telling parts of many names, found altered. `part_of` gives the erasures with a word in a name."""

    def __init__(self, part_of: Callable[[str], Ids]) -> None:
        self._part_of = part_of
        self._near = NearNames()
        self._ids: dict[str, Ids] = {}  # a telling part or whole name → erasure ids
        self._whole: set[str] = set()
        self._sounds: dict[str, Ids] = {}

    def add_part(self, part: str, erasure_id: str) -> None:
        """Watch for the telling part `part` of a name."""
        if len(part) < LEAST_LETTERS:
            return
        self._near.add_part(part)
        self._ids.setdefault(part, set()).add(erasure_id)
        if heard := sounds(part):
            self._sounds.setdefault(heard, set()).add(erasure_id)

    def add_whole(self, name: str, erasure_id: str) -> None:
        """Watch for `name`, several words in one."""
        self._near.add_whole(name)
        self._whole.add(name)
        self._ids.setdefault(name, set()).add(erasure_id)

    def sounding(self, word: str) -> Ids:
        """The erasures that have a telling part that sounds like `word`."""
        return self._sounds.get(sounds(word), _NOTHING) if self._sounds else _NOTHING

    def find(self, text: FoldedText, forms: Callable[[str], tuple[str, ...]]) -> Mapping[int, Altered]:
        """What of `text` is an altered name, by place; `forms` gives what a word may be read as."""
        found: dict[int, Altered] = {}
        judged: dict[tuple[str, tuple[str, ...]], _Resemblance] = {}
        if not self._ids:
            return found
        for place, word in enumerate(text.words):
            pieces = text.pieces.get(place, ())
            if not pieces and (len(word) < LEAST_LETTERS - 1 or is_common(word)):
                continue
            resemblance = judged.get((word, pieces))
            if resemblance is None:
                parts = tuple(self._parts(word, pieces, forms(word)))
                resemblance = judged[word, pieces] = self._resemblance(parts)
            if resemblance.by_itself.named or resemblance.unsure:
                found[place] = self._judge(text, place, resemblance)
        return found

    def _parts(self, word: str, pieces: tuple[str, ...], forms: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Pairs of a part and the form that comes near it; a form equal to the part is sure."""
        if _NAME_BEGINNINGS.isdisjoint(pieces):
            forms = (*forms, *pieces)
        for form in dict.fromkeys(forms):
            if len(form) < LEAST_LETTERS - 1 or is_common(form):
                continue
            if form != word and form in self._ids:
                yield form, form
            if form in known_names():
                continue
            for part in self._near.one_off(form):
                yield part, form
            for before, part, after in self._near.inside(form):
                if part in self._whole or self._run_together(before, part, after):
                    yield part, part

    def _run_together(self, before: str, part: str, after: str) -> bool:
        if is_common(part) or not part.islower():
            return False
        strong = len(part) >= _STRONG
        ids = self._ids[part]
        return _may_precede(before, strong, ids, self._part_of) and (
            _may_precede(after, strong, ids, self._part_of)
            or (strong and len(after) >= _LEAST_APPENDED and is_common(after) and after not in _PLACE_ENDINGS)
        )

    def _resemblance(self, parts: tuple[tuple[str, str], ...]) -> _Resemblance:
        sure: Ids = set()
        unsure = []
        for part, form in parts:
            if part == form or (len(part) >= _STRONG and part.islower() and not is_common(part)):
                sure |= self._ids[part]
            else:
                unsure.append((part, form))
        return _Resemblance(Altered(sure, sure), tuple(unsure))

    def _judge(self, text: FoldedText, place: int, resemblance: _Resemblance) -> Altered:
        if not resemblance.unsure:
            return resemblance.by_itself
        near = set(resemblance.by_itself.near)
        named = set(near)
        beside = self._beside(text, place)
        for part, form in resemblance.unsure:
            ids = self._ids[part]
            near |= ids
            named |= ids if self._is_named(text, place, part, form) else ids & beside
        return Altered(near, named)

    def _beside(self, text: FoldedText, place: int) -> Ids:
        around = (*text.words[max(0, place - _REACH) : place], *text.words[place + 1 : place + _REACH + 1])
        return set().union(*(self._part_of(word) for word in around))

    def _is_named(self, text: FoldedText, place: int, part: str, form: str) -> bool:
        if not (text.named[place] and part[0] == form[0] and part.isascii()):
            return False
        if place == 0 or text.sentence[place - 1] != text.sentence[place]:
            return True
        before = text.words[place - 1]
        return before in TITLES or not (text.named[place - 1] or not is_common(before))


def _may_precede(rest: str, strong: bool, ids: Ids, part_of: Callable[[str], Ids]) -> bool:
    """Whether `rest`, beside a part of a name within one word, leaves it that name."""
    if not rest or rest.isdigit() or (len(rest) > 1 and not ids.isdisjoint(part_of(rest))):
        return True
    bare = len(rest) <= 3 and rest not in _NAME_BEGINNINGS and not any(char in "aeiouy" for char in rest)
    return strong and (rest in facts.FUNCTION_WORDS or rest in TITLES or bare)
