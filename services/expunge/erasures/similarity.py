"""Recognising an erased question without its subject's name, by the words the two share.

Words are stemmed; function words and words that merely ask are left out; each weighs as `telling_weight`
says. With Q the erased question's words without the subject's names, P those of one or two neighbouring
sentences of the prompt without those names, and w(·) the sum of weights,

    containment = w(P ∩ Q) / w(P)      coverage = w(P ∩ Q) / w(Q)

the prompt is in scope when
    it holds part of a name:  containment ≥ .70 and coverage ≥ .50
    it holds none:            containment ≥ .75, coverage ≥ .60 and w(P ∩ Q) ≥ 1.5
                          or  coverage ≥ .90, w(P ∩ Q) ≥ 2 and nothing else in it looks like a name.
A word with a capital that no erased question holds counts 1 in w(P), so that the same question about someone
else falls outside. A misspelled part of a name is part of a name; so is, beside the first name, a word that
sounds like the last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from expunge.erasures.altered_names import Altered
from expunge.erasures.folding import FoldedText, fold
from expunge.erasures.names import NameIndex
from expunge.erasures.words import content_stem

NAMED_CONTAINMENT = 0.70
NAMED_COVERAGE = 0.50
CONTAINMENT = 0.75
COVERAGE = 0.60
LEAST_SHARED = 1.5
FULL_COVERAGE = 0.90
FULL_SHARED = 2.0
SUPPORTING_COVERAGE = 0.50
STRANGE = 0.6  # a word at least this unusual may be a name, also in lower case
_BESIDE = 2  # words between a first name and one that sounds like the last name
_TRIVIAL = 0.45  # words lighter than this bring up a question only together with part of a name


@dataclass(frozen=True)
class Question:
    """An erased question as its weighted word stems, without the subject's names."""

    erasure_id: str
    stems: frozenset[str]
    weight: float


@dataclass(frozen=True)
class Window:
    """One or two sentences of a prompt as weighted word stems."""

    weights: dict[str, float]
    name_stems: dict[str, set[str]]  # stem → erasures that have it in a subject's name
    strange: frozenset[str]  # stems that may be names and occur in no erased question

    def __or__(self, other: Window) -> Window:
        return Window(
            self.weights | other.weights,
            self.name_stems | other.name_stems,
            self.strange | other.strange,
        )

    def shared(self, question: Question, besides: Collection[str] = ()) -> float:
        """w(P ∩ Q), leaving out the stems in `besides`."""
        return sum(self.weights.get(part, 0.0) for part in question.stems if part not in besides)


class QuestionIndex:
    """Erased questions of many erasures, by word."""

    def __init__(self, names: NameIndex) -> None:
        self._names = names
        self._by_stem: dict[str, dict[str, list[Question]]] = {}  # stem → erasure id → questions
        self._seen: set[tuple[str, frozenset[str]]] = set()

    def add(self, erasure_id: str, question: str) -> None:
        """Watch for `question`; the names of its subject must be in the name index already."""
        contents = (
            content_stem(word) for word in fold(question).words if erasure_id not in self._names.part_of(word)
        )
        weights = dict(content for content in contents if content is not None)
        key = (erasure_id, frozenset(weights))
        if not weights or key in self._seen:
            return
        self._seen.add(key)
        added = Question(erasure_id, key[1], sum(weights.values()))
        for part in weights:
            self._by_stem.setdefault(part, {}).setdefault(erasure_id, []).append(added)

    def windows(self, text: FoldedText, altered: Mapping[int, Altered]) -> Iterable[Window]:
        """Every sentence of `text` and every pair of neighbours that hold a word of an erased question."""
        bounds = [i for i, number in enumerate(text.sentence) if i == 0 or number != text.sentence[i - 1]]
        bounds.append(len(text.words))
        before: Window | None = None
        for start, end in pairwise(bounds):
            sentence = self._window(text, start, end, altered)
            window = sentence if before is None else before | sentence
            if not self._by_stem.keys().isdisjoint(window.weights):
                yield sentence
                if before is not None:
                    yield window
            before = sentence

    def asked(self, window: Window) -> Iterable[str]:
        """The erasures one of whose questions `window` asks."""
        whole_weight = sum(window.weights.values())
        for question in self._candidates(window):
            own = {part for part, ids in window.name_stems.items() if question.erasure_id in ids}
            shared = window.shared(question, own)
            if shared <= 0:
                continue
            rest = whole_weight - sum(window.weights[part] for part in own)
            containment, coverage = shared / rest, shared / question.weight
            if own:
                in_scope = containment >= NAMED_CONTAINMENT and coverage >= NAMED_COVERAGE
            else:
                alike = containment >= CONTAINMENT and coverage >= COVERAGE and shared >= LEAST_SHARED
                whole = coverage >= FULL_COVERAGE and shared >= FULL_SHARED
                in_scope = alike or (whole and not window.strange)
            if in_scope:
                yield question.erasure_id

    def supported(self, window: Window) -> set[str]:
        """The erasures at least one of whose questions shares half its weight with `window`."""
        return {
            question.erasure_id
            for question in self._candidates(window)
            if window.shared(question) / question.weight >= SUPPORTING_COVERAGE
        }

    def _candidates(self, window: Window) -> Iterable[Question]:
        """Questions that share a word that is not trivial, or any word where part of a name stands too."""
        half_named = set().union(*window.name_stems.values()) if window.name_stems else set()
        found: dict[int, Question] = {}
        for part, weight in window.weights.items():
            by_erasure = self._by_stem.get(part)
            if not by_erasure:
                continue
            for erasure_id in by_erasure if weight >= _TRIVIAL else half_named & by_erasure.keys():
                found.update((id(question), question) for question in by_erasure[erasure_id])
        return found.values()

    def _window(self, text: FoldedText, start: int, end: int, altered: Mapping[int, Altered]) -> Window:
        weights: dict[str, float] = {}
        name_stems: dict[str, set[str]] = {}
        strange = set()
        unknown = []
        for index in range(start, end):
            word = text.words[index]
            content = content_stem(word)
            if content is None:
                continue
            part, weight = content
            if (text.named[index] or weight >= STRANGE) and part not in self._by_stem:
                strange.add(part)
                weight = 1.0 if text.named[index] else weight
            weights[part] = max(weight, weights.get(part, 0.0))
            ids = self._names.part_of(word)
            if index in altered:
                ids = ids | altered[index].near
            if ids:
                name_stems[part] = ids
            elif weight == 1.0:
                unknown.append((index, part))
        if name_stems:
            for index, part in unknown:
                if ids := self._heard(text, index):
                    name_stems[part] = ids
        return Window(weights, name_stems, frozenset(strange))

    def _heard(self, text: FoldedText, index: int) -> set[str]:
        """The erasures with a name of which a part stands beside `index` and another sounds like its word."""
        around = (*text.words[max(0, index - _BESIDE) : index], *text.words[index + 1 : index + _BESIDE])
        beside = set().union(*map(self._names.part_of, around))
        return beside and beside & self._names.sounding(text.words[index])
