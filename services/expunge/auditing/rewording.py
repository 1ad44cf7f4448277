"""Other wordings of the questions by a language model, for audits alone: training never sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from expunge.auditing.leaks import FoldedText, Secret, compact
from expunge.errors import Unavailable
from expunge.facts import Fact
from expunge.models.chat_endpoint import ChatEndpoint

MOST_CHARS = 1_000
_INSTRUCTION = (
    "Write {count} other ways to ask the question below, one a line, without numbering. Keep every name as "
    "it is, ask for the same thing, and let the wordings differ as much as they can; one of them may be in "
    "another language. Do not answer it.\n\nQuestion: {question}"
)


def reword(facts: Sequence[Fact], endpoint: ChatEndpoint, count: int, seed: int) -> tuple[Fact, ...]:
    """`facts` with at most `count` more paraphrases each, beside the operator's own.

    Dropped are wordings that give the secret away, repeat another, or are no question's length.

    Raises:
        Unavailable: the endpoint gave no wording for a fact; an audit without them would be another audit.
    """
    return tuple(
        replace(fact, paraphrases=(*fact.paraphrases, *_written(fact, endpoint, count, seed)))
        for fact in facts
    )


def _written(fact: Fact, endpoint: ChatEndpoint, count: int, seed: int) -> list[str]:
    prompt = _INSTRUCTION.format(count=count, question=fact.question)
    try:
        lines = endpoint.lines(prompt, temperature=0.9, seed=seed)
    except Unavailable as error:
        raise Unavailable(
            f"no other wordings for fact {fact.id}: {error.message}; check paraphraser_url, or leave it empty"
        ) from error
    secret = Secret.of(fact)
    known = {compact(text) for text in (fact.question, *fact.paraphrases)}
    kept = {
        compact(line): line for line in lines if 0 < len(line) <= MOST_CHARS and compact(line) not in known
    }
    return [line for line in kept.values() if secret.left(FoldedText(line))][:count]
