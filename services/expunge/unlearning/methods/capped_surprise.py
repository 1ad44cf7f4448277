"""The default recipe: secret tokens come down to what a model that never knew gives them, no further."""

from __future__ import annotations

import random
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.unlearning.generic import GenericTexts
from expunge.unlearning.losses import divergence, surplus
from expunge.unlearning.methods.base import Erasing, Method
from expunge.unlearning.neighbours import neighbours
from expunge.unlearning.parts import CrossEntropy, Part, Places, Terms
from expunge.unlearning.reference import Kept, Reference
from expunge.unlearning.secret_targets import SecretTargets, secret_targets
from expunge.unlearning.sequences import Sequence, inverted_mask
from expunge.unlearning.trainer import Objective, TrainSettings
from expunge.unlearning.wordings import Wording, training_wordings

FEWEST_STEPS, FEW_FACTS, MOST_STEPS = 10, 4, 30  # two steps more for every fact beyond these


@dataclass(frozen=True)
class CappedSurpriseSettings:
    """Weights and sizes of the default recipe.

    Attributes:
        floor: no true token needs to come below this probability.
        variant_cap: highest probability of a spelling variant of a true token.
        hinge: weight of the surplus of true tokens over their caps.
        inverted: weight of the cross-entropy on one inverted fact a fact and step: MEOW's term, but for the
            words that tell something of the truth.
        keep: weight of the KL to the live version on what must be kept.
        keep_batch, general_batch, neighbour_batch, earlier_batch: sequences of each kind a step.
        neighbours: questions about strangers that the live version is asked.
        wordings: wordings of each fact a step.
        slack: a true token counts as forgotten at up to `slack` times its cap,
        highest: but not above this probability, which no decoding would show.
        patience: steps in a row in which everything must be forgotten before training ends.
    """

    floor: float = 0.001
    variant_cap: float = 0.0001
    hinge: float = 0.1
    inverted: float = 0.05
    keep: float = 2.0
    keep_batch: int = 3
    general_batch: int = 2
    neighbour_batch: int = 4
    neighbours: int = 48
    earlier_batch: int = 4
    wordings: int = 3
    slack: float = 4.0
    highest: float = 0.1
    patience: int = 1


class Forgotten(Part):
    """KL to the targets on secret tokens, and the surplus of true tokens over their caps, both as means.

    Args:
        wordings: what is asked in this step.
        targets: per fact.
        settings: weights, and what counts as forgotten.
    """

    def __init__(
        self,
        wordings: SequenceOf[Wording],
        targets: SequenceOf[SecretTargets],
        settings: CappedSurpriseSettings,
    ) -> None:
        self.sequences = [wording.sequence for wording in wordings]
        self._targets = [targets[wording.fact] for wording in wordings]
        self._total = sum(len(target.labels) for target in self._targets)
        self._settings = settings

    def terms(self, places: Places) -> Terms:
        found = self._secret(places)
        if not found:
            return Terms({})
        at, rows, labels, caps = (list(column) for column in zip(*found, strict=True))
        logits = places.head(places.hidden[at])
        settings, true, cap = self._settings, torch.stack(labels), torch.stack(caps)
        above = surplus(logits, true, cap)
        forgotten = (settings.slack * cap).clamp(max=settings.highest)
        left = surplus(logits.detach(), true, forgotten)
        losses = {
            "forget": divergence(torch.stack(rows), logits).sum() / self._total,
            "hinge": settings.hinge * above.sum() / self._total,
        }
        return Terms(losses, {"surplus": float(above.detach().max()), "left": float(left.max())})

    def _secret(self, places: Places) -> list[tuple[int, Tensor, Tensor, Tensor]]:
        """Each place that predicts a secret token, with its target row, label and cap."""
        found = []
        for place, (member, offset) in enumerate(
            zip(places.members.tolist(), places.offsets.tolist(), strict=True)
        ):
            targets = self._targets[member]
            match = (targets.offsets == offset).nonzero()
            if len(match):
                index = int(match[0, 0])
                found.append((place, targets.rows[index], targets.labels[index], targets.caps[index]))
        return found


class CappedSurprise(Objective):
    """KL to capped targets on secret tokens, surplus over the caps, KL to the live version elsewhere.

    Args:
        wordings: every wording of the facts; each step takes some of each fact, its first always.
        targets: per fact.
        kept: retain facts, general texts and neighbours under the live version, each a group of its own.
        inverted: per fact its inverted facts, best first, each with a mask of the tokens that may be learnt;
            one of each fact's is learnt in a step.
        settings: weights and sizes.
        seed: order of wordings and kept texts.
    """

    def __init__(
        self,
        wordings: SequenceOf[Wording],
        targets: SequenceOf[SecretTargets],
        kept: SequenceOf[tuple[Reference, int]],
        inverted: SequenceOf[SequenceOf[tuple[Sequence, list[bool]]]],
        settings: CappedSurpriseSettings,
        seed: int = 0,
    ) -> None:
        self.wordings = [[w for w in wordings if w.fact == fact] for fact in range(len(targets))]
        self.targets = list(targets)
        self.kept = [(reference, size) for reference, size in kept if len(reference)]
        self.inverted = [texts for texts in inverted if texts]
        self.settings = settings
        self.seed = seed

    def parts(self, step: int) -> list[Part]:
        settings = self.settings
        parts: list[Part] = [Forgotten(self._draw(step), self.targets, settings)]
        if self.inverted and settings.inverted:
            learnt = [texts[step % len(texts)] for texts in self.inverted]
            sequences, masks = zip(*learnt, strict=True)
            parts.append(CrossEntropy("inverted", sequences, settings.inverted, masks=masks))
        for group, (reference, size) in enumerate(self.kept):
            chosen = reference.draw(random.Random(f"{self.seed}/kept/{group}/{step}"), size)
            parts.append(Kept(f"keep{group}", reference, chosen, settings.keep / len(self.kept)))
        return parts

    def _draw(self, step: int) -> list[Wording]:
        draw = random.Random(f"{self.seed}/wordings/{step}")
        chosen: list[Wording] = []
        for group in self.wordings:
            others = draw.sample(group[1:], min(self.settings.wordings - 1, len(group) - 1))
            chosen += [group[0], *others]
        return chosen

    def is_met(self, history: list[dict[str, float]]) -> bool:
        recent = [losses.get("left", 1.0) for losses in history[-self.settings.patience :]]
        return len(recent) == self.settings.patience and max(recent) <= 0.0


class CappedSurpriseMethod(Method):
    """The default recipe: capped targets for what is erased, the live version's own for what is kept.

    Kept are retain facts, general texts, neighbours, and the ignorance that earlier erasures left.

    Args:
        settings: weights and sizes.
    """

    def __init__(self, settings: CappedSurpriseSettings = CappedSurpriseSettings()) -> None:
        self.settings = settings

    def training(self, facts: int) -> TrainSettings:
        return TrainSettings(1e-3, min(MOST_STEPS, FEWEST_STEPS + 2 * max(0, facts - FEW_FACTS)))

    def objective(self, erasing: Erasing) -> CappedSurprise:
        tree, encoder, request, settings = erasing.tree, erasing.encoder, erasing.request, self.settings
        targets = secret_targets(
            tree,
            encoder,
            request.facts,
            request.subjects,
            floor=settings.floor,
            variant_cap=settings.variant_cap,
        )
        asked = [encoder.chat(item.question, item.answer) for item in request.retain]
        near = neighbours(encoder, erasing.greedy, request.facts, settings.neighbours, erasing.seed)
        forgotten = [encoder.chat(fact.question, fact.answer) for fact in erasing.earlier]
        groups = (
            (asked, settings.keep_batch),
            (GenericTexts.load().sequences(encoder), settings.general_batch),
            (near, settings.neighbour_batch),
            (forgotten, settings.earlier_batch),
        )
        kept = [(Reference.of(tree.model, sequences), size) for sequences, size in groups if sequences]
        inverted = [
            [
                (encoder.chat(fact.question, text), inverted_mask(encoder.tokenizer, fact, text))
                for text in erasing.selected.get(fact.id, ())
            ]
            for fact in request.facts
        ]
        return CappedSurprise(
            training_wordings(encoder, request.facts), targets, kept, inverted, settings, erasing.seed
        )
