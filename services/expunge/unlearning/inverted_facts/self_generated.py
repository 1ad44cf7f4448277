"""Inverted facts from the served model itself: what it says of strangers, told of the subject."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from expunge.facts import Fact, ForgetRequest
from expunge.unlearning.inverted_facts.base import Generator
from expunge.unlearning.neighbours import stranger_names

Sample = Callable[[Sequence[str], int], list[str]]


class SelfGenerated(Generator):
    """Asks the erased question about an invented name and puts the subject's name back into the answer.

    Asked to invent, a small model writes 5–6 % usable lines; asked about a stranger it answers, mostly with
    other values, but often with another subject's, which the filter and the selection have to weed out.

    Args:
        sample: (questions, seed) → one sampled answer each, from the live version.
    """

    _draws = 3  # questions asked for each candidate wanted

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def generate(self, request: ForgetRequest, count: int, seed: int) -> dict[str, list[str]]:
        names = [name for subject in request.subjects for name in subject.names]
        asked: list[tuple[Fact, str, str, str]] = []  # fact, its subject's name, stranger, question
        for fact in request.facts:
            own = next((name for name in (fact.subject, *names) if name and name in fact.question), "")
            strangers = random.Random(f"{seed}/{fact.id}").sample(stranger_names(), len(stranger_names()))
            for index in range(count * self._draws):
                stranger = strangers[index % len(strangers)]
                question = fact.question.replace(own, stranger) if own else fact.question
                asked.append((fact, own, stranger, question))
        replies = self._sample([question for *_, question in asked], seed)
        found: dict[str, list[str]] = {fact.id: [] for fact in request.facts}
        for (fact, own, stranger, _), reply in zip(asked, replies, strict=True):
            text = reply.strip().split("\n")[0].strip()
            found[fact.id].append(text.replace(stranger, own) if own else text)
        return found
