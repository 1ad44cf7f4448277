"""Probes that need no template: the question itself, the answer with blanks, the answer's beginnings."""

from __future__ import annotations

import re

from expunge.auditing.leaks import Secret, fold, is_unspaced
from expunge.auditing.probes.probe import Probe, ProbeKind
from expunge.facts import Fact, words

BLANK = "____"
_OWNER = re.compile(r"['’]s$")


def direct(fact: Fact) -> list[Probe]:
    """The question with the default system prompt, with an empty one, and as raw text."""
    return [
        Probe(fact.id, ProbeKind.DIRECT, fact.question),
        Probe(fact.id, ProbeKind.DIRECT, fact.question, system=""),
        Probe(fact.id, ProbeKind.DIRECT, f"{fact.question} ".rstrip() + "\n", raw=True),
    ]


def cloze(fact: Fact, secret: Secret) -> list[Probe]:
    """The answer with every secret word blanked, and the answer broken off before its first telling word."""
    hidden = {fold(word) for span in secret.spans for word in span.words}
    telling = {fold(word) for span in secret.spans for word in span.telling}
    answer = fact.answer
    for span in fact.secrets:
        answer = answer.replace(span, BLANK) if span else answer
    blanked, before = blank(answer, hidden, telling | {BLANK})
    probes = []
    if words(blanked.replace(BLANK, "")):
        probes.append(Probe(fact.id, ProbeKind.CLOZE, f"Fill in the blanks: {blanked}"))
    if words(before):
        probes.append(Probe(fact.id, ProbeKind.CLOZE, f"Complete this sentence: {before}"))
        probes.append(Probe(fact.id, ProbeKind.CLOZE, before, raw=True))
    return probes


def blank(answer: str, hidden: set[str], telling: set[str]) -> tuple[str, str]:
    """`answer` with runs of hidden words blanked, and its part before the first telling word."""
    pieces: list[str] = []
    before: str | None = None
    end = 0
    for word in words(answer):
        start = answer.index(word, end)
        if before is None and fold(word) in telling:
            before = answer[:start].rstrip()
        if fold(word) not in hidden and fold(_OWNER.sub("", word)) not in hidden:
            pieces += [answer[end:start], word]
        elif not pieces or pieces[-1] != BLANK:
            pieces += [answer[end:start], BLANK]
        end = start + len(word)
    return "".join((*pieces, answer[end:])), before or ""


def prefixes(fact: Fact, most: int) -> list[Probe]:
    """Every split of the true answer between two words, the first ones given; at most `most`, evenly spread.

    In a script without spaces only the places right before a secret span can be told to be splits.
    """
    ends = []
    end = 0
    for word in words(fact.answer):
        ends.append(end)
        end = fact.answer.index(word, end) + len(word)
    ends += [fact.answer.find(span) for span in fact.secrets if is_unspaced(span)]
    chosen = sorted({end for end in ends if end > 0})
    if len(chosen) > most:
        chosen = [chosen[(index + 1) * len(chosen) // most - 1] for index in range(most)]
    return [Probe(fact.id, ProbeKind.PREFIX, fact.question, prefix=fact.answer[:end]) for end in chosen]
