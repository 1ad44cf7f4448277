"""Which candidates may be used: none that repeats or entails the truth, none twice, none empty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from expunge.auditing.leaks import FoldedText, Secret, compact
from expunge.facts import Fact, words

MAX_WORDS_FACTOR = 3  # longer than this many times the true answer is rambling, not an answer


@dataclass(frozen=True)
class Filtered:
    """What passed, by fact id, and how many were dropped for which reason."""

    candidates: dict[str, list[str]]
    dropped: dict[str, int] = field(default_factory=dict)


def refusal(candidate: str, fact: Fact) -> str:
    """Why `candidate` may not be used for `fact`; "" when it may.

    A candidate entails the truth when it gives a whole secret away, or when it tells nothing that the truth
    and the question do not tell (all its words are the answer's or the question's).
    """
    if not candidate.strip():
        return "empty"
    if compact(candidate) == compact(fact.answer):
        return "repeats"
    if Secret.of(fact).leak(candidate, FoldedText(fact.question)).full:
        return "entails"
    known = FoldedText(f"{fact.question} {fact.answer}")
    if all(known.holds(word) for word in words(candidate)):
        return "entails"
    if len(candidate.split()) > MAX_WORDS_FACTOR * max(4, len(fact.answer.split())):
        return "too_long"
    return ""


def filter_candidates(facts: Iterable[Fact], candidates: Mapping[str, list[str]]) -> Filtered:
    """Drop what may not be used; order is kept."""
    kept: dict[str, list[str]] = {}
    dropped: dict[str, int] = {}
    for fact in facts:
        seen: set[str] = set()
        kept[fact.id] = []
        for text in candidates.get(fact.id, []):
            reason = refusal(text, fact) or ("duplicate" if compact(text) in seen else "")
            if reason:
                dropped[reason] = dropped.get(reason, 0) + 1
                continue
            seen.add(compact(text))
            kept[fact.id].append(text.strip())
    return Filtered(kept, dropped)
