"""Questions and answers as token sequences, and which answer tokens are secret."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from typing import Any

from expunge.facts import FUNCTION_WORDS, Fact, secret_words, words


@dataclass(frozen=True)
class Sequence:
    """A prompt and its continuation; only the continuation is predicted.

    Attributes:
        prompt: token ids that are given.
        answer: token ids that are predicted, the end-of-sequence token included where one is wanted.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prompt + self.answer


class ChatEncoder:
    """Puts questions and answers through a tokenizer's chat template, as the service does."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def prompt(self, question: str, system: str | None = None) -> tuple[int, ...]:
        """Token ids up to where the assistant begins to answer."""
        messages = [{"role": "user", "content": question}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def answer(self, text: str) -> tuple[int, ...]:
        """Token ids of an answer with its end-of-sequence token."""
        return (*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id)

    def chat(self, question: str, answer: str, system: str | None = None) -> Sequence:
        """The pair as the served model sees it."""
        return Sequence(self.prompt(question, system), self.answer(answer))

    def raw(self, text: str) -> Sequence:
        """Plain text without a template: the first token is given, the others are predicted."""
        ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
        return Sequence(ids[:1], ids[1:])

    def told(self, lead: str, answer: str) -> Sequence:
        """An answer in a plain text, after `lead`, without a template."""
        return Sequence(tuple(self.tokenizer.encode(lead, add_special_tokens=False)), self.answer(answer))

    def pieces(self, ids: tuple[int, ...]) -> list[str]:
        """The text of each token alone."""
        return [self.tokenizer.decode([token]) for token in ids]

    def vocabulary(self) -> list[str]:
        """The text of every token id."""
        return self.pieces(tuple(range(len(self.tokenizer))))


def answer_spans(tokenizer: Any, answer: str) -> list[tuple[int, int]]:
    """Character span [start, end) of each token of `answer` (without end-of-sequence token)."""
    encoded = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
    return [(int(start), int(end)) for start, end in encoded["offset_mapping"]]


def telling_words(fact: Fact) -> tuple[str, ...]:
    """Every word that gives something of the fact away: its secrets and all content words of its answer."""
    every = secret_words(replace(fact, secrets=()))
    return tuple(dict.fromkeys((*secret_words(fact), *every)))


def secret_mask(tokenizer: Any, fact: Fact) -> list[bool]:
    """For each answer token but the end-of-sequence token: does it hold a letter or digit of a telling word?

    The first token of a word counts with the space before it. Function words and words of the question do not
    count, unless the fact consists of nothing else.
    """
    return _word_mask(tokenizer, fact.answer, telling_words(fact))


def inverted_mask(tokenizer: Any, fact: Fact, inverted: str) -> list[bool]:
    """For each token of an inverted fact, end of sequence included: may it be learnt?

    Words that tell something of the truth stand in most false answers, too; they are not to be learnt again.
    """
    return [*(not told for told in _word_mask(tokenizer, inverted, telling_words(fact))), True]


def _word_mask(tokenizer: Any, text: str, chosen: SequenceOf[str]) -> list[bool]:
    """For each token of `text`: does it hold a letter or digit of one of the `chosen` words (casefolded)?"""
    wanted = set(chosen)
    spans: list[tuple[int, int]] = []
    start = 0
    for word in words(text):
        begin = text.index(word, start)
        start = begin + len(word)
        if word.casefold() in wanted:
            spans.append((begin, start))
    return [
        any(begin < end_ and start_ < end for begin, end in spans)
        for start_, end_ in answer_spans(tokenizer, text)
    ]


def is_function_word(text: str) -> bool:
    """Is this token's text a function word, or punctuation or space alone?"""
    stripped = text.strip().casefold()
    return stripped in FUNCTION_WORDS or not any(character.isalnum() for character in stripped)
