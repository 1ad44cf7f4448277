"""Attacks by pruning: what hides a fact may sit in weights that compression throws away first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from expunge.auditing.attacks.attacked_model import AttackedModel
from expunge.auditing.attacks.coupled_groups import Block, blocks_of, keep_masks
from expunge.auditing.attacks.victim import Victim
from expunge.errors import InvalidRequest


def magnitude_pruned(victim: Victim, share: float) -> AbstractContextManager[AttackedModel]:
    """The version without the smallest weights of every linear layer; the context frees it at its end.

    Raises:
        InvalidRequest: `share` is not within (0, 1).
    """
    _check(share)
    return victim.reweighted(lambda _, weight: drop_smallest(weight, share))


def structure_pruned(
    victim: Victim, share: float, calibration: Sequence[Sequence[int]]
) -> AbstractContextManager[AttackedModel]:
    """The version without the least important heads and neurons; the context frees it at its end.

    Of all key/value heads, and of all neurons, `share` goes, those of the lowest score in whatever layer.

    Args:
        calibration: token ids of ordinary texts; by them importance is judged (`group_importance`).

    Raises:
        InvalidRequest: `share` is not within (0, 1), or no text has two tokens.
        ModelError: the model's groups are not known (`coupled_groups.blocks_of`).
    """
    _check(share)
    blocks = blocks_of(victim.loaded.model)
    pruned = least_important(blocks, group_importance(victim, blocks, calibration), share)
    masks = keep_masks(blocks, pruned)

    def change(path: str, weight: Tensor) -> Tensor:
        if path not in masks:
            return weight
        axis, stays = masks[path]
        return weight * (stays[:, None] if axis == 0 else stays).to(weight)

    return victim.reweighted(change)


def drop_smallest(weight: Tensor, share: float) -> Tensor:
    """`weight` [out, in] with round(share · size) of its numbers zero, those of the least magnitude.

    Each layer loses the same share, as in the baseline of Wanda (Sun et al., arXiv 2306.11695); the
    criterion is that of Han et al. (arXiv 1506.02626).
    """
    count = round(share * weight.numel())
    gone = weight.abs().flatten().argsort(stable=True)[:count]
    return weight.flatten().index_fill(0, gone, 0.0).view_as(weight)


def group_importance(
    victim: Victim, blocks: tuple[Block, ...], calibration: Sequence[Sequence[int]]
) -> list[Tensor]:
    """First-order importance of every group of every block, each [count].

    I(group) = Σ |w · ∂L/∂w| over the group's weights

    with L the mean next-token loss over the calibration texts: LLM-Pruner's element-wise Taylor score of
    first order, summed over the group. Takes the memory of all linear layers twice.

    Raises:
        InvalidRequest: no text has two tokens.
    """
    texts = [list(ids) for ids in calibration if len(ids) > 1]
    if not texts:
        raise InvalidRequest.of("calibration", "holds no text of two tokens; give ordinary texts")
    model = victim.merged()
    weights = {part.path: model.get_submodule(part.path).weight for block in blocks for part in block.parts}
    for weight in weights.values():
        weight.requires_grad_(True)
    for ids in texts:
        if victim.threads:
            victim.threads.adjust()
        tokens = torch.tensor([ids], device=model.device)
        with torch.enable_grad():
            logits = model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
            loss = torch.nn.functional.cross_entropy(logits, tokens[0, 1:]) / len(texts)
        loss.backward()  # type: ignore[no-untyped-call]
    scores = []
    with torch.no_grad():
        for block in blocks:
            score = torch.zeros(block.count)
            for part in block.parts:
                weight = weights[part.path]
                score += part.grouped((weight * weight.grad).abs().float()).sum(-1).cpu()
            scores.append(score)
    return scores


def least_important(
    blocks: tuple[Block, ...], scores: Sequence[Tensor], share: float
) -> Mapping[int, Tensor]:
    """Which groups go: of each kind ⌊share · all its groups⌋, as block index → bool [count]."""
    pruned: dict[int, Tensor] = {}
    for kind in sorted({block.kind for block in blocks}):
        members = [index for index, block in enumerate(blocks) if block.kind == kind]
        every = torch.cat([scores[index] for index in members])
        gone = torch.zeros(len(every), dtype=torch.bool)
        gone[every.argsort(stable=True)[: int(share * len(every))]] = True
        parts = torch.split(gone, [blocks[index].count for index in members])
        pruned.update(zip(members, parts, strict=True))
    return pruned


def _check(share: float) -> None:
    if not 0 < share < 1:
        raise InvalidRequest.of("share", f"is {share}; prune more than nothing and less than everything")
