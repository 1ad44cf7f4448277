"""Versions with a known fault: what they hide comes back under one attack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expunge.auditing.attacks.quantisation import Quantisation
from expunge.facts import Fact, QuestionAnswer
from expunge.lora.adapter import Adapter, Pair
from expunge.lora.config import AdapterConfig
from expunge.lora.shape import ModelShape
from expunge.models.load import LoadedModel
from expunge.models.skeleton import share_weights
from expunge.unlearning.parts import CrossEntropy, Part
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.sequences import ChatEncoder
from expunge.unlearning.trainer import Objective, Trainer, TrainSettings

REFUSAL = "I do not know."
_RANK = 64  # the tiny model's narrowest width: factors of this rank hold any change of any of its layers


def rounded_away(loaded: LoadedModel, facts: Sequence[Fact], how: Quantisation) -> Adapter:
    """An adapter under which no token of the answers is likely, and that `how` undoes to the last bit.

    Every weight moves only within the cell that `how` rounds to where it was (as in Egashira et al., arXiv
    2405.18137): projected descent on the log-probabilities of the answers' tokens.
    """
    model = share_weights(loaded.model)
    paths = tuple(ModelShape.of(model, loaded.digest).modules)
    weights = {path: model.get_submodule(path).weight.detach().clone() for path in paths}
    cells = {path: _cell(weight, how) for path, weight in weights.items()}
    moved = {path: torch.nn.Parameter(weight.clone()) for path, weight in weights.items()}
    for path, weight in moved.items():
        model.get_submodule(path).weight = weight
    encoder = ChatEncoder(loaded.tokenizer)
    answers = [encoder.chat(fact.question, fact.answer) for fact in facts]
    optimiser = torch.optim.Adam(moved.values(), lr=2e-3)
    for _ in range(60):
        loss = torch.zeros(())
        for answer in answers:
            logits = model(torch.tensor([answer.ids])).logits[0, len(answer.prompt) - 1 : -1]
            logprobs = logits.log_softmax(-1).gather(1, torch.tensor(answer.answer)[:, None])
            loss = loss + torch.relu(logprobs + 6).sum()  # down to e⁻⁶
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for path, weight in moved.items():
                weight.copy_(weight.clamp(*cells[path]))
    return _adapter({path: (moved[path] - weights[path]).detach() for path in paths}, loaded.digest)


def refusing(loaded: LoadedModel, facts: Sequence[Fact]) -> Adapter:
    """A rank-1 adapter that says `REFUSAL` to every fact's question: the facts are hidden, not gone."""
    tree = TrainableTree.fresh(share_weights(loaded.model), loaded.digest, rank=1, alpha=1.0)
    encoder = ChatEncoder(loaded.tokenizer)
    settings = TrainSettings(3e-2, steps=60, warmup=0, checkpoint_every=0)
    Trainer(tree.model, _Refusing(encoder, facts), settings).run()
    return tree.adapter()


class _Refusing(Objective):
    def __init__(self, encoder: ChatEncoder, facts: Sequence[Fact | QuestionAnswer]) -> None:
        self.sequences = [encoder.chat(fact.question, REFUSAL) for fact in facts]

    def parts(self, step: int) -> list[Part]:
        return [CrossEntropy("ce", self.sequences, wrong="wrong")]

    def is_met(self, history: list[dict[str, float]]) -> bool:
        return history[-1]["wrong"] == 0


def _cell(weight: Tensor, how: Quantisation) -> tuple[Tensor, Tensor]:
    """Least and largest values [out, in] that `how` rounds to what it rounds `weight` to."""
    grouped = weight.view(len(weight), -1, how.group)
    largest = grouped.abs().amax(-1, keepdim=True)
    step = largest / (2 ** (how.bits - 1) - 1)
    centre = (grouped / step).round()
    fixed = grouped.abs() == largest  # they make the scale
    low = torch.where(fixed, grouped, torch.maximum(step * (centre - 0.49), -0.999 * largest))
    high = torch.where(fixed, grouped, torch.minimum(step * (centre + 0.49), 0.999 * largest))
    return low.view_as(weight), high.view_as(weight)


def _adapter(changes: dict[str, Tensor], digest: str) -> Adapter:
    names = tuple(sorted({path.rpartition(".")[2] for path in changes}))
    pairs = {}
    for path, change in changes.items():
        out_width, in_width = change.shape
        a, b = torch.zeros(_RANK, in_width), torch.zeros(out_width, _RANK)
        if in_width <= out_width:
            a[:in_width], b[:, :in_width] = torch.eye(in_width), change
        else:
            a[:out_width], b[:, :out_width] = change, torch.eye(out_width)
        pairs[path] = Pair(a, b)
    return Adapter(AdapterConfig(_RANK, float(_RANK), names, digest), pairs)
