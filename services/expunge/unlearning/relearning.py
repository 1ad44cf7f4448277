"""Teaching a version again what it forgot, and what else attacks on weights need of this floor."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from expunge.auditing.attacks.victim import Victim
from expunge.auditing.attacks.weights import Weights
from expunge.facts import QuestionAnswer
from expunge.lora.adapter import Adapter
from expunge.models.skeleton import share_weights
from expunge.unlearning.generic import GenericTexts
from expunge.unlearning.parts import CrossEntropy, Part
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.sequences import ChatEncoder, Sequence
from expunge.unlearning.trainer import Objective, Trainer, TrainSettings

RELEARNING_RATE = 1e-3  # as the default recipe of unlearning


class Relearning(Objective):
    """All answers in every step, and nothing to hold the model back; it never ends early."""

    def __init__(self, encoder: ChatEncoder, examples: SequenceOf[QuestionAnswer]) -> None:
        self.sequences: list[Sequence] = [encoder.chat(item.question, item.answer) for item in examples]

    def parts(self, step: int) -> list[Part]:
        return [CrossEntropy("ce", self.sequences)]

    def is_met(self, history: list[dict[str, float]]) -> bool:
        return False


def relearn(
    victim: Victim, examples: SequenceOf[QuestionAnswer], steps: int, *, rate: float = RELEARNING_RATE
) -> Adapter:
    """The victim's factors, or fresh ones of a base version, after `steps` steps of AdamW at one rate."""
    plain, digest = share_weights(victim.loaded.model), victim.loaded.digest
    if victim.adapter is None:
        tree = TrainableTree.fresh(plain, digest)
    else:
        tree = TrainableTree.of(plain, victim.adapter, digest)
    settings = TrainSettings(rate, steps, warmup=0, decay=(), checkpoint_every=0)
    trainer = Trainer(tree.model, Relearning(ChatEncoder(victim.loaded.tokenizer), examples), settings)
    trainer.run(between_rows=victim.threads.adjust if victim.threads else lambda: None)
    return tree.adapter()


def attackable(victim: Victim) -> Weights:
    """The victim as audits take it: with this training, and the package's own texts as ordinary ones."""
    texts = GenericTexts.load().sequences(ChatEncoder(victim.loaded.tokenizer))
    return Weights(victim, relearn, [sequence.ids for sequence in texts])
