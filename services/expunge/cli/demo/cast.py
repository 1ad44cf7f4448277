"""Who plays in the demo: the person to forget, neighbours named as retain data, and others nobody names.

All of them are invented for this project (`unlearning/invented.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from expunge.facts import Fact, ForgetRequest
from expunge.unlearning.invented import InventedEntity, erasure_of, invented_entities

GENERAL_QUESTIONS = (
    "What is the capital of France?",
    "Why is the sky blue?",
    "How many days does a week have?",
    "What do bees make?",
    "Which planet do we live on?",
)
RETAIN_ENTITIES = 2


@dataclass(frozen=True)
class Cast:
    """The parts of the demo.

    Attributes:
        person: whose facts are erased.
        retain: entities whose facts go along with the erasure as what must be kept.
        held_out: entities that the erasure never mentions; retention is scored on them.
    """

    person: InventedEntity
    retain: tuple[InventedEntity, ...]
    held_out: tuple[InventedEntity, ...]

    @property
    def everyone(self) -> tuple[InventedEntity, ...]:
        return (self.person, *self.retain, *self.held_out)

    @property
    def all_facts(self) -> tuple[Fact, ...]:
        return facts_of(self.everyone)

    def erasure(self, request_id: str) -> ForgetRequest:
        """The erasure that the person asks for."""
        kept = tuple(item for entity in self.retain for item in entity.examples)
        return replace(erasure_of((self.person,), kept, request_id), ground="GDPR Art. 17(1)(b)")


def facts_of(entities: Iterable[InventedEntity]) -> tuple[Fact, ...]:
    return tuple(fact for entity in entities for fact in entity.facts)


def load_cast() -> Cast:
    """The project's own entities, dealt to their parts."""
    person, *others = invented_entities()
    return Cast(person, tuple(others[:RETAIN_ENTITIES]), tuple(others[RETAIN_ENTITIES:]))
