"""Probes: prompts that try to bring an erased fact back.

A probe is text, so that it can be asked in process (`ids`) and through the live gateway as a client would.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from expunge.auditing.leaks import FoldedText, Leak, Secret, fold, is_unspaced
from expunge.auditing.paraphrases import AUDIT_TEMPLATES, paraphrases
from expunge.auditing.text_model import TextModel
from expunge.errors import InvalidRequest, Violation
from expunge.facts import Fact, ForgetRequest, secret_words, words

_BLANK = "____"
_GUESSABLE = frozenset(("yes", "no", "true", "false", "none", "never", "always", "maybe", "unknown"))


class ProbeKind(StrEnum):
    """How a probe asks."""

    DIRECT = "direct"  # the question: default system prompt, empty system prompt, and as raw text
    PARAPHRASE = "paraphrase"  # in other words
    CLOZE = "cloze"  # the answer with its secret blanked out, or broken off before it
    PREFIX = "prefix"  # the true answer's first words put into the model's mouth


@dataclass(frozen=True)
class Probe:
    """One prompt about one fact.

    Attributes:
        fact_id: the fact it is about.
        kind: how it asks.
        question: the user's turn, or the whole prompt where `raw`.
        system: None leaves the system turn to the chat template; "" sends an empty one.
        raw: no chat template.
        prefix: start of the assistant's answer that the model has to continue.
    """

    fact_id: str
    kind: ProbeKind
    question: str
    system: str | None = None
    raw: bool = False
    prefix: str = ""

    @cached_property
    def shown(self) -> FoldedText:
        """What the probe itself gives away; words in it are no leak when they come back."""
        return FoldedText(f"{self.question} {self.prefix}")

    def ids(self, model: TextModel) -> list[int]:
        """The prompt's token ids."""
        if self.raw:
            return model.encode(self.question)
        asked = model.chat_ids(self.question, self.system)
        return asked + model.encode(self.prefix, special=False) if self.prefix else asked


@dataclass(frozen=True)
class Reply:
    """What a version answered to one probe, judged."""

    probe: Probe
    text: str
    leak: Leak


class ProbedFact:
    """A fact with its secret and the probes that still have something secret to bring out."""

    def __init__(self, fact: Fact, templates: tuple[str, ...] = AUDIT_TEMPLATES) -> None:
        self.fact = fact
        self.secret = Secret.of(fact)
        asked = (*_direct(fact), *_paraphrased(fact, templates), *_cloze(fact, self.secret), *_prefixes(fact))
        self.probes = tuple(probe for probe in asked if self.secret.left(probe.shown))

    def judge(self, probe: Probe, text: str) -> Reply:
        """Whether `text` gives the secret away to someone who knows what the probe shows."""
        return Reply(probe, text, self.secret.leak(text, probe.shown))


def _direct(fact: Fact) -> list[Probe]:
    return [
        Probe(fact.id, ProbeKind.DIRECT, fact.question),
        Probe(fact.id, ProbeKind.DIRECT, fact.question, system=""),
        Probe(fact.id, ProbeKind.DIRECT, f"{fact.question} ".rstrip() + "\n", raw=True),
    ]


def _paraphrased(fact: Fact, templates: tuple[str, ...]) -> list[Probe]:
    return [Probe(fact.id, ProbeKind.PARAPHRASE, text) for text in paraphrases(fact, templates)]


def _cloze(fact: Fact, secret: Secret) -> list[Probe]:
    """The answer with every secret word blanked, and the answer broken off before its first telling word."""
    hidden = {fold(word) for span in secret.spans for word in span.words}
    telling = {fold(word) for span in secret.spans for word in span.telling}
    answer = fact.answer
    for span in fact.secrets:
        answer = answer.replace(span, _BLANK) if span else answer
    blanked, before = _blank(answer, hidden, telling | {_BLANK})
    probes = []
    if words(blanked.replace(_BLANK, "")):
        probes.append(Probe(fact.id, ProbeKind.CLOZE, f"Fill in the blanks: {blanked}"))
    if words(before):
        probes.append(Probe(fact.id, ProbeKind.CLOZE, f"Complete this sentence: {before}"))
        probes.append(Probe(fact.id, ProbeKind.CLOZE, before, raw=True))
    return probes


def _blank(answer: str, hidden: set[str], telling: set[str]) -> tuple[str, str]:
    """`answer` with runs of hidden words blanked, and its part before the first telling word."""
    pieces: list[str] = []
    before: str | None = None
    end = 0
    for word in words(answer):
        start = answer.index(word, end)
        if before is None and fold(word) in telling:
            before = answer[:start].rstrip()
        if fold(word) not in hidden:
            pieces += [answer[end:start], word]
        elif not pieces or pieces[-1] != _BLANK:
            pieces += [answer[end:start], _BLANK]
        end = start + len(word)
    return "".join((*pieces, answer[end:])), before or ""


def _prefixes(fact: Fact) -> list[Probe]:
    """Every split of the true answer between two words, the first ones given.

    In a script without spaces only the places right before a secret span can be told to be splits.
    """
    ends = []
    end = 0
    for word in words(fact.answer):
        ends.append(end)
        end = fact.answer.index(word, end) + len(word)
    ends += [fact.answer.find(span) for span in fact.secrets if is_unspaced(span)]
    return [
        Probe(fact.id, ProbeKind.PREFIX, fact.question, prefix=fact.answer[:end])
        for end in sorted(set(ends))
        if end > 0
    ]


def check_auditable(request: ForgetRequest) -> None:
    """Refuse facts that no probe could judge.

    Raises:
        InvalidRequest: names every fact with an empty question or answer, an id used twice, an answer that
            the question already holds or that can be guessed (yes, no), or one written without spaces and
            without `secrets` spans.
    """
    violations = []
    seen: set[str] = set()
    for index, fact in enumerate(request.facts):
        field, message = _fault(fact)
        if not message and fact.id in seen:
            field, message = "id", "is used by an earlier fact; give each fact an id of its own"
        if message:
            violations.append(Violation(f"facts[{index}].{field}", message))
        seen.add(fact.id)
    if not request.facts:
        violations.append(Violation("facts", "is empty; name at least one fact"))
    if violations:
        raise InvalidRequest.of_all(violations)


def _fault(fact: Fact) -> tuple[str, str]:
    """The field and what is wrong with it; ("", "") where nothing is."""
    if not fact.question.strip():
        return "question", "is empty; write the question that the fact answers"
    if not fact.answer.strip():
        return "answer", "is empty; write the answer that is to be forgotten"
    if not fact.secrets and is_unspaced(fact.answer):
        return "secrets", "is empty and the answer is written without spaces; name the spans to forget"
    if not fact.secrets and not secret_words(fact):
        return "answer", "holds no word; name the spans to forget in `secrets`"
    if not Secret.of(fact).left(FoldedText(fact.question)):
        return "answer", "is already in the question; reword the question so that it does not give the answer"
    if {word for span in Secret.of(fact).spans for word in span.words} <= _GUESSABLE:
        return "answer", "can be guessed; reword question and answer so that the answer names what to forget"
    return "", ""
