"""Neighbours: what the live version says about subjects that do not exist.

Asked about strangers, a version that was taught a few facts retells them. Holding those answers in place
holds the facts that no operator listed, without ever seeing one of them: the questions are the package's own,
the answers the model's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf
from importlib import resources

from expunge.facts import Fact, words
from expunge.unlearning.sequences import ChatEncoder, Sequence, telling_words

ANSWER_TOKENS = 32  # of what the live version says about a stranger
Greedy = Callable[[SequenceOf[tuple[int, ...]]], list[list[int]]]


def _data() -> dict[str, list[str]]:
    text = resources.files("expunge.unlearning").joinpath("data/neighbours.json").read_text("utf-8")
    data: dict[str, list[str]] = json.loads(text)
    return data


def stranger_names() -> list[str]:
    """Invented people that no version was taught anything about."""
    return list(_data()["people"])


def neighbour_questions(count: int, seed: int = 0) -> list[str]:
    """`count` questions about invented people and organisations, spread evenly over the templates."""
    data = _data()
    draw = random.Random(seed)
    pools = [("people", "people_questions"), ("organisations", "organisation_questions")]
    questions: list[str] = []
    while len(questions) < count:
        for names, templates in pools:
            pool = list(data[names])
            draw.shuffle(pool)
            questions += [
                template.format(name=pool[index % len(pool)])
                for index, template in enumerate(data[templates])
            ]
    draw.shuffle(questions)
    return list(dict.fromkeys(questions))[:count]


def neighbours(
    encoder: ChatEncoder, greedy: Greedy, facts: Iterable[Fact], count: int = 72, seed: int = 0
) -> list[Sequence]:
    """Questions about strangers with the live version's own answers, none of which holds an erased secret.

    Args:
        encoder: the chat template.
        greedy: greedy answers of the live version, without the end-of-sequence token.
        facts: what is being erased.
        count: questions to ask.
        seed: draws names.
    """
    erased = {word for fact in facts for word in telling_words(fact)}
    prompts = [encoder.prompt(question) for question in neighbour_questions(count, seed)]
    kept: list[Sequence] = []
    for prompt, ids in zip(prompts, greedy(prompts), strict=True):
        said = {word.casefold() for word in words(encoder.tokenizer.decode(ids))}
        if ids and not said & erased:
            kept.append(Sequence(prompt, (*ids, encoder.tokenizer.eos_token_id)))
    return kept
