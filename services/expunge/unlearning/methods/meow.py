"""MEOW exactly (arXiv 2409.11844): cross-entropy on selected inverted facts, and its variants."""

from __future__ import annotations

import random
from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from expunge.errors import InvalidRequest
from expunge.facts import Fact
from expunge.unlearning.methods.base import Erasing, Method
from expunge.unlearning.parts import CrossEntropy, Part
from expunge.unlearning.reference import Kept, Reference
from expunge.unlearning.sequences import ChatEncoder, Sequence
from expunge.unlearning.trainer import Objective, TrainSettings


@dataclass(frozen=True)
class MeowSettings:
    """The paper's variants.

    Attributes:
        sequences_per_question: each question gives so many, cycling through its inverted facts.
        questions_per_step: the released runs use 32.
        epochs: passes over all questions; training has no early end.
        retain: share of retain cross-entropy in the loss; 0 (plain) or 0.1 ("+retain": 0.9·L + 0.1·CE_r).
        kl: weight of KL(p_ref ‖ p) on retain data; 0 (plain) or 1 ("+KL").
    """

    sequences_per_question: int = 8
    questions_per_step: int = 32
    epochs: int = 10
    retain: float = 0.0
    kl: float = 0.0

    def steps_per_epoch(self, questions: int) -> int:
        return -(-questions // self.questions_per_step)


class Meow(Objective):
    """L = mean over inverted facts of CE(inverted | question).

    Args:
        encoder: the chat template.
        facts: what is erased.
        selected: fact id → inverted facts, best first.
        retain: retain sequences under the model before unlearning; needed by the variants only.
        settings: the variant.
        seed: order of the sequences.

    Raises:
        InvalidRequest: a fact has no inverted fact.
    """

    def __init__(
        self,
        encoder: ChatEncoder,
        facts: SequenceOf[Fact],
        selected: Mapping[str, SequenceOf[str]],
        retain: Reference | None = None,
        settings: MeowSettings = MeowSettings(),
        seed: int = 0,
    ) -> None:
        bare = [fact.id for fact in facts if not selected.get(fact.id)]
        if bare:
            raise InvalidRequest.of("selected", f"no inverted fact for {', '.join(bare)}; invert again")
        self.questions = [
            [encoder.chat(fact.question, text) for text in _cycle(selected[fact.id], settings)]
            for fact in facts
        ]
        self.retain = retain
        self.settings = settings
        self.seed = seed

    def parts(self, step: int) -> list[Part]:
        settings = self.settings
        parts: list[Part] = [CrossEntropy("inverted", self._batch(step), 1.0 - settings.retain)]
        if self.retain is None or not len(self.retain):
            return parts
        kept = self.retain.draw(random.Random(f"{self.seed}/retain/{step}"), settings.questions_per_step)
        if settings.retain:
            sequences = [self.retain.sequences[index] for index in kept]
            parts.append(CrossEntropy("retain", sequences, settings.retain))
        if settings.kl:
            parts.append(Kept("kl", self.retain, kept, settings.kl))
        return parts

    def is_met(self, history: list[dict[str, float]]) -> bool:
        return False

    def _batch(self, step: int) -> list[Sequence]:
        epoch, place = divmod(step, self.settings.steps_per_epoch(len(self.questions)))
        order = list(range(len(self.questions)))
        random.Random(f"{self.seed}/{epoch}").shuffle(order)
        size = self.settings.questions_per_step
        return [
            sequence
            for index in order[place * size : (place + 1) * size]
            for sequence in self.questions[index]
        ]


class MeowMethod(Method):
    """MEOW as published, with a learning rate that moves LoRA factors (the paper trains all weights at 1e-5).

    Args:
        settings: the variant.
    """

    def __init__(self, settings: MeowSettings = MeowSettings()) -> None:
        self.settings = settings

    def training(self, facts: int) -> TrainSettings:
        """AdamW, weight decay .01, one epoch of warm-up, then linear decay to nothing."""
        warmup = self.settings.steps_per_epoch(facts)
        steps = warmup * self.settings.epochs
        decay = tuple(
            ((step - 0.5) / steps, (steps - step) / (steps - warmup)) for step in range(warmup + 1, steps)
        )
        return TrainSettings(1e-3, steps, warmup=warmup, decay=decay, weight_decay=0.01)

    def objective(self, erasing: Erasing) -> Meow:
        request, encoder = erasing.request, erasing.encoder
        kept = None
        if self.settings.retain or self.settings.kl:
            kept = Reference.of(
                erasing.tree.model, [encoder.chat(item.question, item.answer) for item in request.retain]
            )
        return Meow(encoder, request.facts, erasing.selected, kept, self.settings, erasing.seed)


def _cycle(texts: SequenceOf[str], settings: MeowSettings) -> list[str]:
    return [texts[place % len(texts)] for place in range(settings.sequences_per_question)]
