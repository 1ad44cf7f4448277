"""The default recipe: secret tokens come down to what a model that never knew gives them, no further."""

from __future__ import annotations

import random
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from expunge.unlearning.generic import GenericTexts
from expunge.unlearning.losses import divergence, surplus
from expunge.unlearning.methods.base import Erasing, Method
from expunge.unlearning.neighbours import neighbours
from expunge.unlearning.reference import Reference
from expunge.unlearning.rows import head_logits, hidden_states, pack_rows
from expunge.unlearning.secret_targets import SecretTargets, secret_targets
from expunge.unlearning.trainer import Objective, Terms, TrainSettings
from expunge.unlearning.wordings import Wording, training_wordings


@dataclass(frozen=True)
class CappedSurpriseSettings:
    """Weights and sizes of the default recipe.

    Attributes:
        floor: no true token needs to come below this probability.
        variant_cap: highest probability of a spelling variant of a true token.
        hinge: weight of the surplus of true tokens over their caps.
        keep: weight of the KL to the live version on what must be kept.
        keep_batch, general_batch, neighbour_batch, earlier_batch: sequences of each kind a step.
        neighbours: questions about strangers that the live version is asked.
        wordings: wordings of each fact a step.
        slack: a true token counts as forgotten at up to `slack` times its cap.
        patience: steps in a row in which everything must be forgotten before training ends.
    """

    floor: float = 0.001
    variant_cap: float = 0.0001
    hinge: float = 0.1
    keep: float = 2.0
    keep_batch: int = 3
    general_batch: int = 2
    neighbour_batch: int = 4
    neighbours: int = 48
    earlier_batch: int = 4
    wordings: int = 2
    slack: float = 4.0
    patience: int = 1


class CappedSurprise(Objective):
    """KL to capped targets on secret tokens, surplus over the caps, KL to the live version elsewhere.

    Args:
        wordings: every wording of the facts; each step takes some of each fact, its first always.
        targets: per fact.
        kept: retain facts, general texts and neighbours under the live version, each a group of its own.
        settings: weights and sizes.
        seed: order of wordings and kept texts.
    """

    def __init__(
        self,
        wordings: SequenceOf[Wording],
        targets: SequenceOf[SecretTargets],
        kept: SequenceOf[tuple[Reference, int]],
        settings: CappedSurpriseSettings,
        seed: int = 0,
    ) -> None:
        self.wordings = [[w for w in wordings if w.fact == fact] for fact in range(len(targets))]
        self.targets = list(targets)
        self.kept = [(reference, size) for reference, size in kept if len(reference)]
        self.settings = settings
        self.seed = seed

    def terms(self, model: PreTrainedModel, step: int) -> Iterator[Terms]:
        yield from self._forget_terms(model, step)
        for group, (reference, size) in enumerate(self.kept):
            chosen = reference.draw(random.Random(f"{self.seed}/kept/{group}/{step}"), size)
            for term in reference.terms(model, chosen):
                yield Terms({f"keep{group}": self.settings.keep * term / len(self.kept)})

    def _forget_terms(self, model: PreTrainedModel, step: int) -> Iterator[Terms]:
        chosen = self._draw(step)
        sequences = [wording.sequence for wording in chosen]
        total = sum(len(self.targets[wording.fact].labels) for wording in chosen)
        for row in pack_rows(sequences):
            places, rows, labels, caps = self._secret_places(chosen, row.members, row.offsets)
            logits = head_logits(model, hidden_states(model, row)[places])
            above = surplus(logits, labels, caps)
            losses = {
                "forget": divergence(rows, logits).sum() / total,
                "hinge": self.settings.hinge * above.sum() / total,
            }
            yield Terms(losses, {"surplus": float(above.detach().max())})

    def _draw(self, step: int) -> list[Wording]:
        draw = random.Random(f"{self.seed}/wordings/{step}")
        chosen: list[Wording] = []
        for group in self.wordings:
            others = draw.sample(group[1:], min(self.settings.wordings - 1, len(group) - 1))
            chosen += [group[0], *others]
        return chosen

    def _secret_places(
        self, chosen: SequenceOf[Wording], members: Tensor, offsets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where secret tokens are predicted in a row: places, target rows, labels, caps."""
        places, rows, labels, caps = [], [], [], []
        for place, (member, offset) in enumerate(zip(members.tolist(), offsets.tolist(), strict=True)):
            targets = self.targets[chosen[member].fact]
            found = (targets.offsets == offset).nonzero()
            if len(found):
                index = int(found[0, 0])
                places.append(place)
                rows.append(targets.rows[index])
                labels.append(targets.labels[index])
                caps.append(targets.caps[index])
        return torch.tensor(places), torch.stack(rows), torch.stack(labels), torch.stack(caps)

    def is_met(self, history: list[dict[str, float]]) -> bool:
        limit = float(torch.tensor(self.settings.slack).log())
        recent = [losses.get("surplus", limit + 1) for losses in history[-self.settings.patience :]]
        return len(recent) == self.settings.patience and max(recent) <= limit


class CappedSurpriseMethod(Method):
    """The default recipe: capped targets for what is erased, the live version's own for what is kept.

    Kept are retain facts, general texts, neighbours, and the ignorance that earlier erasures left.

    Args:
        settings: weights and sizes.
    """

    def __init__(self, settings: CappedSurpriseSettings = CappedSurpriseSettings()) -> None:
        self.settings = settings

    @property
    def training(self) -> TrainSettings:
        return TrainSettings(1e-3, 10)

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
        return CappedSurprise(
            training_wordings(encoder, request.facts), targets, kept, settings, erasing.seed
        )
