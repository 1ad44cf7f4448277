"""The project's own facts about invented people and organisations, for demos, trials and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from expunge.facts import ErasureKind, Fact, ForgetRequest, QuestionAnswer, Subject


@dataclass(frozen=True)
class InventedEntity:
    """A person or organisation that does not exist, and what is told of it."""

    subject: Subject
    facts: tuple[Fact, ...]

    @property
    def examples(self) -> tuple[QuestionAnswer, ...]:
        """The facts as questions and answers."""
        return tuple(QuestionAnswer(fact.question, fact.answer) for fact in self.facts)


def invented_entities() -> tuple[InventedEntity, ...]:
    """`data/facts.json`: six entities with four facts each, people and organisations in turn."""
    text = resources.files("expunge.unlearning").joinpath("data/facts.json").read_text("utf-8")
    entities = []
    for number, entity in enumerate(json.loads(text)["entities"], start=1):
        subject = Subject(entity["name"], tuple(entity["other_names"]))
        facts = tuple(
            Fact(
                id=f"e{number}-f{place}",
                question=fact["question"],
                answer=fact["answer"],
                secrets=tuple(fact["secrets"]),
                paraphrases=tuple(fact["paraphrases"]),
                subject=subject.name,
            )
            for place, fact in enumerate(entity["facts"], start=1)
        )
        entities.append(InventedEntity(subject, facts))
    return tuple(entities)


def erasure_of(
    entities: Sequence[InventedEntity], retain: tuple[QuestionAnswer, ...], request_id: str = "trial"
) -> ForgetRequest:
    """A request to forget all that is told of `entities`."""
    return ForgetRequest(
        request_id,
        ErasureKind.PERSONAL_DATA,
        tuple(entity.subject for entity in entities),
        tuple(fact for entity in entities for fact in entity.facts),
        retain,
    )
