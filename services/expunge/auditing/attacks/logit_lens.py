"""Where in the model a fact can be read: the logit lens (nostalgebraist, 2020; cf. arXiv 2303.08112).

The hidden state after layer l, put through the model's final norm and output head, is what the model would
say if it ended there:

    p_l = softmax(head(norm(h_l)))

An erasure that only turns the last layers shows here: below them the fact is as readable as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from expunge.auditing.attacks.victim import Victim
from expunge.errors import InvalidRequest, ModelError

BATCH_TOKENS = 2048


@dataclass(frozen=True)
class LensItem:
    """One fact as tokens.

    Attributes:
        prompt: given, up to where the answer begins.
        answer: given, too, token by token.
        secret: which places of `answer` are looked for, ascending.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    secret: Sequence[int]


@dataclass(frozen=True)
class LensReading:
    """What each layer says of every secret token, after the true tokens before it.

    Attributes:
        probability: p_l(token), [layers, tokens] float32.
        rank: the token's place among all by p_l, 1 for the likeliest, [layers, tokens] int64.
        facts: index of each token's fact, [tokens].
    """

    probability: Tensor
    rank: Tensor
    facts: Tensor

    @property
    def first(self) -> Tensor:
        """Probability of each fact's first secret token, [layers, facts]: whether the telling would begin."""
        starts = torch.cat([torch.ones(1, dtype=torch.bool), self.facts[1:] != self.facts[:-1]])
        return self.probability[:, starts]

    @property
    def mean(self) -> Tensor:
        """Geometric mean over each fact's secret tokens, [layers, facts]."""
        sums = torch.zeros(len(self.probability), int(self.facts.max()) + 1)
        sums.index_add_(1, self.facts, self.probability.log())
        return (sums / torch.bincount(self.facts)).exp()

    @property
    def readable(self) -> Tensor:
        """Share of each fact's secret tokens that come first, [layers, facts]."""
        counts = torch.zeros(len(self.rank), int(self.facts.max()) + 1)
        counts.index_add_(1, self.facts, (self.rank == 1).float())
        return counts / torch.bincount(self.facts)


@torch.no_grad()
def logit_lens(victim: Victim, items: Sequence[LensItem]) -> LensReading:
    """Read every layer of the version, in one pass for all items that fit a batch.

    The last layer's reading is the model's own distribution (where no soft cap follows the head).

    Raises:
        InvalidRequest: an item without prompt or without secret places in its answer.
        ModelError: the decoder has no `layers` and final `norm`.
    """
    for index, item in enumerate(items):
        if not item.prompt or not item.secret or max(item.secret) >= len(item.answer):
            raise InvalidRequest.of(f"items[{index}]", "needs a prompt, and secret places within its answer")
    model = victim.factored().model
    read = [_read(model, victim, batch) for batch in _batches(items)]
    facts = [torch.full((len(item.secret),), index) for index, item in enumerate(items)]
    return LensReading(
        torch.cat([probability for probability, _ in read], dim=1),
        torch.cat([rank for _, rank in read], dim=1),
        torch.cat(facts),
    )


def _read(model: PreTrainedModel, victim: Victim, items: Sequence[LensItem]) -> tuple[Tensor, Tensor]:
    """Probability and rank of the items' secret tokens in their order, both [layers, tokens]."""
    layers, norm = _stack(model)
    head = model.get_output_embeddings()
    inputs = [torch.tensor([*item.prompt, *item.answer][:-1]) for item in items]
    tokens = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True)  # [items, longest]
    present = torch.arange(tokens.shape[1]) < torch.tensor([len(ids) for ids in inputs])[:, None]
    rows = torch.tensor([row for row, item in enumerate(items) for _ in item.secret])
    places = torch.tensor([len(item.prompt) + place - 1 for item in items for place in item.secret])
    labels = torch.tensor([item.answer[place] for item in items for place in item.secret])
    found: list[tuple[Tensor, Tensor]] = []

    def read(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        hidden = output[0] if isinstance(output, tuple) else output  # [items, longest, width]
        logits = head(norm(hidden[rows, places])).float().cpu()  # [tokens, vocabulary]
        own = logits.gather(1, labels[:, None])
        found.append(((own[:, 0] - logits.logsumexp(-1)).exp(), (logits > own).sum(-1) + 1))

    if victim.threads:
        victim.threads.adjust()
    hooks = [layer.register_forward_hook(read) for layer in layers]
    try:
        model.get_decoder()(
            input_ids=tokens.to(model.device), attention_mask=present.to(model.device), use_cache=False
        )
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([each for each, _ in found]), torch.stack([each for _, each in found])


def _stack(model: PreTrainedModel) -> tuple[nn.ModuleList, nn.Module]:
    decoder = model.get_decoder()
    layers, norm = getattr(decoder, "layers", None), getattr(decoder, "norm", None)
    if not isinstance(layers, nn.ModuleList) or not isinstance(norm, nn.Module):
        raise ModelError(
            f"{type(decoder).__name__} has no `layers` and final `norm`; it can't be read by layer"
        )
    return layers, norm


def _batches(items: Sequence[LensItem]) -> list[list[LensItem]]:
    """Runs of items whose padded rows stay within `BATCH_TOKENS` (a longer item gets its own)."""
    batches: list[list[LensItem]] = []
    longest = 0
    for item in items:
        longest = max(longest, len(item.prompt) + len(item.answer))
        if not batches or longest * (len(batches[-1]) + 1) > BATCH_TOKENS:
            batches.append([])
            longest = len(item.prompt) + len(item.answer)
        batches[-1].append(item)
    return batches
