"""MEOW exactly (arXiv 2409.11844): cross-entropy on selected inverted facts, and its variants."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

from transformers import PreTrainedModel

from expunge.errors import InvalidRequest
from expunge.facts import Fact
from expunge.unlearning.losses import cross_entropy
from expunge.unlearning.methods.base import Erasing, Method
from expunge.unlearning.reference import Reference
from expunge.unlearning.rows import head_logits, hidden_states, pack_rows
from expunge.unlearning.sequences import ChatEncoder, Sequence
from expunge.unlearning.trainer import Objective, Terms, TrainSettings


@dataclass(frozen=True)
class MeowSettings:
    """The paper's variants.

    Attributes:
        sequences_per_question: each question gives so many, cycling through its inverted facts.
        questions_per_step: the released runs use 32.
        epochs: passes over all sequences; training has no early end.
        retain: share of retain cross-entropy in the loss; 0 (plain) or 0.1 ("+retain": 0.9·L + 0.1·CE_r).
        kl: weight of KL(p_ref ‖ p) on retain data; 0 (plain) or 1 ("+KL").
    """

    sequences_per_question: int = 8
    questions_per_step: int = 32
    epochs: int = 10
    retain: float = 0.0
    kl: float = 0.0


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
        self.sequences = [
            encoder.chat(fact.question, selected[fact.id][place % len(selected[fact.id])])
            for fact in facts
            for place in range(settings.sequences_per_question)
        ]
        self.retain = retain
        self.settings = settings
        self.seed = seed

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self._steps_per_epoch * self.settings.epochs

    @property
    def _steps_per_epoch(self) -> int:
        return -(-len(self.sequences) // self.settings.questions_per_step)

    def terms(self, model: PreTrainedModel, step: int) -> Iterator[Terms]:
        chosen = self._batch(step)
        for row in pack_rows(chosen):
            logits = head_logits(model, hidden_states(model, row)).float()
            share = len(row.present) / len(chosen) * (1.0 - self.settings.retain)
            yield Terms({"inverted": share * cross_entropy(logits, row.labels, row.members)})
        if self.retain is None or not len(self.retain):
            return
        kept = self.retain.draw(random.Random(f"{self.seed}/retain/{step}"), self.settings.questions_per_step)
        if self.settings.retain:
            sequences = [self.retain.sequences[index] for index in kept]
            for row in pack_rows(sequences):
                logits = head_logits(model, hidden_states(model, row)).float()
                share = len(row.present) / len(kept) * self.settings.retain
                yield Terms({"retain": share * cross_entropy(logits, row.labels, row.members)})
        if self.settings.kl:
            for term in self.retain.terms(model, kept):
                yield Terms({"kl": self.settings.kl * term})

    def is_met(self, history: list[dict[str, float]]) -> bool:
        return False

    def _batch(self, step: int) -> list[Sequence]:
        epoch, place = divmod(step, self._steps_per_epoch)
        order = list(range(len(self.sequences)))
        random.Random(f"{self.seed}/{epoch}").shuffle(order)
        size = self.settings.questions_per_step
        return [self.sequences[index] for index in order[place * size : (place + 1) * size]]


class MeowMethod(Method):
    """MEOW as published, with a learning rate that moves LoRA factors (the paper trains all weights at 1e-5).

    Args:
        settings: the variant.
    """

    def __init__(self, settings: MeowSettings = MeowSettings()) -> None:
        self.settings = settings

    @property
    def training(self) -> TrainSettings:
        """AdamW, weight decay .01; the published warm-up and linear decay span epochs of one step here."""
        epochs = self.settings.epochs
        decay = tuple((step / epochs, 1 - step / epochs) for step in range(1, epochs))
        return TrainSettings(1e-3, epochs, warmup=1, decay=decay, weight_decay=0.01)

    def objective(self, erasing: Erasing) -> Meow:
        request, encoder = erasing.request, erasing.encoder
        kept = None
        if self.settings.retain or self.settings.kl:
            kept = Reference.of(
                erasing.tree.model, [encoder.chat(item.question, item.answer) for item in request.retain]
            )
        return Meow(encoder, request.facts, erasing.selected, kept, self.settings, erasing.seed)
