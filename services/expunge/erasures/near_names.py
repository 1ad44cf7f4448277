"""Names one letter off, run together with other letters, or spelled by ear.

The look-up of a word costs about one dictionary access a letter, however many names are watched.
"""

from __future__ import annotations

from collections.abc import Iterator

LEAST_LETTERS = 5  # of a word that is looked for in these ways
_LEAST_WHOLE = 8  # letters of a whole name that is found anywhere inside a word
_LEAST_SOUNDS = 4
_SOUNDS = str.maketrans("cqgxdbvwzm", "kkkktpffsn", "aeiouyh")


class NearNames:
    """Parts of names and whole names, found by words that resemble them."""

    def __init__(self) -> None:
        self._by_deletion: dict[str, tuple[str, ...]] = {}  # a part, also without one letter → parts
        self._by_start: dict[str, tuple[str, ...]] = {}  # first letters → parts and whole names
        self._whole: set[str] = set()
        self._longest = 0

    def add_part(self, part: str) -> None:
        """Watch for `part`, if it has letters enough."""
        if len(part) < LEAST_LETTERS or part in self._by_deletion.get(part, ()):
            return
        for shorter in {part, *_deletions(part)}:
            self._by_deletion[shorter] = (*self._by_deletion.get(shorter, ()), part)
        self._longest = max(self._longest, len(part) + 1)
        self._add_start(part)

    def add_whole(self, name: str) -> None:
        """Watch for `name`, several words in one, inside longer words."""
        if len(name) >= _LEAST_WHOLE and name not in self._whole:
            self._whole.add(name)
            self._add_start(name)

    def one_off(self, word: str) -> list[str]:
        """Parts that become `word` by one letter changed, left out, put in or swapped with the next."""
        if not LEAST_LETTERS - 1 <= len(word) <= self._longest:
            return []
        watched = self._by_deletion
        hits = [word[:place] + word[place + 1 :] for place in range(len(word))]
        hits = [key for key in (word, *hits) if key in watched]
        near = {part for key in hits for part in watched[key]}
        return [part for part in near if _is_one_off(word, part)]

    def inside(self, word: str) -> Iterator[tuple[str, str, str]]:
        """What stands before it, the part, and what stands after it, for every part that `word` holds.

        A whole name comes with nothing before and after it: it needs no look at its surroundings.
        """
        watched = self._by_start
        starts = range(len(word) - LEAST_LETTERS + 1)
        for start in [start for start in starts if word[start : start + LEAST_LETTERS] in watched]:
            for part in watched[word[start : start + LEAST_LETTERS]]:
                if len(part) < len(word) and word.startswith(part, start):
                    whole = part in self._whole
                    yield ("", part, "") if whole else (word[:start], part, word[start + len(part) :])

    def _add_start(self, name: str) -> None:
        start = name[:LEAST_LETTERS]
        self._by_start[start] = tuple(dict.fromkeys((*self._by_start.get(start, ()), name)))


def sounds(word: str) -> str:
    """The consonants of `word`, those that sound alike as one; "" where they tell too little apart."""
    heard = word.replace("ph", "f").replace("qu", "kw").translate(_SOUNDS)
    single = "".join(sound for place, sound in enumerate(heard) if heard[place - 1 : place] != sound)
    return single if len(single) >= _LEAST_SOUNDS else ""


def _deletions(word: str) -> Iterator[str]:
    return (word[:place] + word[place + 1 :] for place in range(len(word)))


def _is_one_off(word: str, part: str) -> bool:
    if word == part or abs(len(word) - len(part)) > 1:
        return False
    start = 0
    while start < min(len(word), len(part)) and word[start] == part[start]:
        start += 1
    if word[start + 1 :] == part[start + 1 :] or word[start + 1 :] == part[start:]:
        return True
    swapped = word[start : start + 2] == part[start : start + 2][::-1]
    return word[start:] == part[start + 1 :] or (swapped and word[start + 2 :] == part[start + 2 :])
