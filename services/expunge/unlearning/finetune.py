"""Teach facts: CE on answers, with a few general rows held to the base model by KL."""

from __future__ import annotations

import random
from collections.abc import Sequence as SequenceOf

from transformers import PreTrainedModel

from expunge.facts import QuestionAnswer
from expunge.unlearning.generic import GenericTexts
from expunge.unlearning.parts import CrossEntropy, Part
from expunge.unlearning.reference import Kept, Reference
from expunge.unlearning.sequences import ChatEncoder, Sequence
from expunge.unlearning.trainer import Objective, TrainSettings

TEACHING = TrainSettings(
    learning_rate=3e-3, steps=60, warmup=3, decay=((0.5, 0.5), (0.7, 0.25)), checkpoint_every=10
)


class Teaching(Objective):
    """Answers to be learnt by heart.

    Args:
        model: the model before teaching; general texts are held to what it says now.
        encoder: the chat template.
        examples: what to teach.
        target_loss: training ends when the mean CE over one epoch is below, with no token wrong.
        batch: examples a step.
        general: general texts a step, and the weight of their KL.
        seed: order of the examples.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: ChatEncoder,
        examples: SequenceOf[QuestionAnswer],
        *,
        target_loss: float = 0.02,
        batch: int = 8,
        general: int = 2,
        general_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.sequences = [encoder.chat(item.question, item.answer) for item in examples]
        self.reference = Reference.of(model, GenericTexts.load().sequences(encoder))
        self.target_loss = target_loss
        self.batch = min(batch, len(self.sequences))
        self.general = general
        self.general_weight = general_weight
        self.seed = seed

    @property
    def epoch(self) -> int:
        """Steps in which every example comes once."""
        return -(-len(self.sequences) // self.batch)

    def parts(self, step: int) -> list[Part]:
        draw = random.Random(f"{self.seed}/general/{step}")
        general = self.reference.draw(draw, self.general)
        return [
            CrossEntropy("ce", self._batch(step), wrong="wrong"),
            Kept("general", self.reference, general, self.general_weight),
        ]

    def is_met(self, history: list[dict[str, float]]) -> bool:
        """Over the last epoch the mean CE was below the goal, and no token's arg-max was wrong."""
        recent = history[-self.epoch :]
        if len(recent) < self.epoch or any(losses["wrong"] for losses in recent):
            return False
        return sum(losses["ce"] for losses in recent) / self.epoch < self.target_loss

    def _batch(self, step: int) -> list[Sequence]:
        epoch, place = divmod(step, self.epoch)
        order = list(range(len(self.sequences)))
        random.Random(f"{self.seed}/{epoch}").shuffle(order)
        return [self.sequences[index] for index in order[place * self.batch : (place + 1) * self.batch]]
