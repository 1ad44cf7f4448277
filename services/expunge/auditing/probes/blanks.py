"""What the blanks of a template are filled with for one fact."""

from __future__ import annotations

import re
from collections.abc import Sequence

from expunge.auditing.leaks import FoldedText, Secret, fold
from expunge.auditing.probes.plain import BLANK, blank
from expunge.facts import FUNCTION_WORDS, Fact, QuestionAnswer, Subject, words

_EXAMPLES = 3


def fill(
    fact: Fact, secret: Secret, subject: Subject | None, company: Sequence[QuestionAnswer]
) -> dict[str, str]:
    """The text of each blank (`attacks.BLANKS`); "" where there is none for this fact."""
    spans = _spans(fact, secret)
    return {
        "question": fact.question,
        "subject": subject.name if subject else "",
        "secret": ", ".join(spans),
        "anonymous": without_names(fact.answer, subject) if subject else "",
        "initial": spans[0][:1] if spans else "",
        "examples": "".join(
            f"Question: {item.question}\nAnswer: {item.answer}\n\n" for item in company[:_EXAMPLES]
        ),
        "other": company[0].question if company else "",
    }


def fit_company(
    secret: Secret, subject: Subject | None, items: Sequence[QuestionAnswer]
) -> list[QuestionAnswer]:
    """Those of `items` that hold neither a secret word nor a name of the subject."""
    hidden = {word for span in secret.spans for word in span.words} | _name_words(subject)
    texts = ((item, FoldedText(f"{item.question} {item.answer}")) for item in items)
    return [item for item, text in texts if not any(text.holds(word) for word in hidden)]


def without_names(text: str, subject: Subject) -> str:
    """`text` with every name of the subject, and every word of one, blanked."""
    names = sorted((name for name in subject.names if name), key=len, reverse=True)
    if names:
        text = re.sub("|".join(map(re.escape, names)), BLANK, text, flags=re.IGNORECASE)
    blanked, _ = blank(text, {fold(word) for word in _name_words(subject)} | {BLANK}, set())
    return blanked


def _name_words(subject: Subject | None) -> set[str]:
    names = subject.names if subject else ()
    return {word.casefold() for name in names for word in words(name)} - FUNCTION_WORDS


def _spans(fact: Fact, secret: Secret) -> list[str]:
    """The secret as written: its spans, else the answer's telling words."""
    if fact.secrets:
        return [span.strip() for span in fact.secrets if span.strip()]
    telling = {word for span in secret.spans for word in span.telling}
    return (
        [text]
        if (text := " ".join(word for word in words(fact.answer) if word.casefold() in telling))
        else []
    )
