"""Which facts no probe could judge: refused by name before anything is asked."""

from __future__ import annotations

from expunge.auditing.leaks import FoldedText, Secret, is_unspaced
from expunge.errors import InvalidRequest, Violation
from expunge.facts import Fact, ForgetRequest, secret_words

_GUESSABLE = frozenset(("yes", "no", "true", "false", "none", "never", "always", "maybe", "unknown"))


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
