"""Pruning takes exactly what is least, and whole groups at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from expunge.auditing.attacks.coupled_groups import Block, Part, blocks_of, keep_masks
from expunge.auditing.attacks.pruning import (
    drop_smallest,
    group_importance,
    least_important,
    magnitude_pruned,
    structure_pruned,
)
from expunge.auditing.attacks.victim import Victim
from expunge.errors import InvalidRequest, ModelError

TEXTS = [list(range(20, 44)), list(range(60, 75))]


@pytest.fixture
def blocks(victim: Victim) -> tuple[Block, ...]:
    return blocks_of(victim.loaded.model)


@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.99])
def test_the_smallest_weights_go_and_no_others(share: float) -> None:
    weight = torch.randn(30, 41, generator=torch.Generator().manual_seed(1))
    pruned = drop_smallest(weight, share)
    gone = pruned == 0
    assert int(gone.sum()) == round(share * weight.numel())
    assert torch.equal(pruned[~gone], weight[~gone])
    assert weight[gone].abs().max() <= weight[~gone].abs().min()


def test_equal_weights_are_pruned_to_the_number() -> None:
    assert int((drop_smallest(torch.ones(8, 8), 0.25) == 0).sum()) == 16


def test_groups_are_heads_with_their_queries_and_neurons(blocks: tuple[Block, ...]) -> None:
    """The tiny model: 2 layers, 4 heads of 16 that share 2 key heads, 128 neurons."""
    assert [(block.kind, block.count) for block in blocks] == [("attention", 2), ("mlp", 128)] * 2
    attention, mlp = blocks[2], blocks[3]
    prefix = "model.layers.1"
    assert attention.parts == (
        Part(f"{prefix}.self_attn.q_proj", 0, 32),
        Part(f"{prefix}.self_attn.k_proj", 0, 16),
        Part(f"{prefix}.self_attn.v_proj", 0, 16),
        Part(f"{prefix}.self_attn.o_proj", 1, 32),
    )
    assert {(part.path.rpartition(".")[2], part.axis) for part in mlp.parts} == {
        ("gate_proj", 0),
        ("up_proj", 0),
        ("down_proj", 1),
    }


def test_a_model_with_other_layers_is_refused(tiny_model: tuple[PreTrainedModel, object]) -> None:
    model = tiny_model[0]
    layer = model.model.layers[0].mlp
    layer.gate, layer.gate_proj = layer.gate_proj, nn.Identity()
    layer = model.model.layers[1].mlp
    layer.up, layer.up_proj = layer.up_proj, nn.Identity()
    with pytest.raises(ModelError, match="magnitude"):
        blocks_of(model)


def test_structure_pruning_zeroes_exactly_the_chosen_groups(
    victim: Victim, blocks: tuple[Block, ...]
) -> None:
    pruned = least_important(blocks, group_importance(victim, blocks, TEXTS), 0.25)
    assert sum(int(gone.sum()) for index, gone in pruned.items() if blocks[index].kind == "attention") == 1
    assert sum(int(gone.sum()) for index, gone in pruned.items() if blocks[index].kind == "mlp") == 64
    with structure_pruned(victim, 0.25, TEXTS) as attacked:
        model = attacked._open._runner.model
        for path in victim.modules:
            axis, stays = keep_masks(blocks, pruned)[path]
            expected = victim.weight(path)
            if axis == 0:
                expected[~stays] = 0
            else:
                expected[:, ~stays] = 0
            assert torch.equal(model.get_submodule(path).weight, expected)


@torch.no_grad()
def test_zeroed_groups_compute_what_cutting_them_out_does(victim: Victim, blocks: tuple[Block, ...]) -> None:
    pruned = {
        0: torch.tensor([True, False]),
        1: torch.arange(128) % 3 == 0,
        3: torch.arange(128) < 50,
    }
    cut = victim.merged()
    for path, (axis, stays) in keep_masks(blocks, pruned).items():
        module = cut.get_submodule(path)
        kept = stays.nonzero()[:, 0]
        module.weight = nn.Parameter(module.weight.index_select(axis, kept), requires_grad=False)
    masks = keep_masks(blocks, pruned)

    def zero(path: str, weight: torch.Tensor) -> torch.Tensor:
        if path not in masks:
            return weight
        axis, stays = masks[path]
        return weight * (stays[:, None] if axis == 0 else stays)

    tokens = torch.tensor([TEXTS[0]])
    torch.testing.assert_close(victim.merged(zero)(tokens).logits, cut(tokens).logits, rtol=1e-4, atol=1e-4)


def test_importance_is_the_summed_product_of_weight_and_gradient(
    victim: Victim, blocks: tuple[Block, ...]
) -> None:
    model = victim.merged()
    mlp = model.model.layers[0].mlp
    for layer in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
        layer.weight.requires_grad_(True)
    loss = sum(model(torch.tensor([ids]), labels=torch.tensor([ids])).loss for ids in TEXTS) / 2
    loss.backward()
    expected = [
        sum(
            float((line.detach() * gradient).abs().sum())
            for line, gradient in (
                (mlp.gate_proj.weight[neuron], mlp.gate_proj.weight.grad[neuron]),
                (mlp.up_proj.weight[neuron], mlp.up_proj.weight.grad[neuron]),
                (mlp.down_proj.weight[:, neuron], mlp.down_proj.weight.grad[:, neuron]),
            )
        )
        for neuron in range(4)
    ]
    found = group_importance(victim, blocks, TEXTS)[1][:4]
    assert found.tolist() == pytest.approx(expected, rel=1e-3)


def test_the_least_important_groups_of_each_kind_go_wherever_they_are() -> None:
    blocks = tuple(Block(kind, count, ()) for kind, count in (("attention", 3), ("mlp", 2), ("attention", 3)))
    scores = [torch.tensor([5.0, 0.1, 7.0]), torch.tensor([1.0, 2.0]), torch.tensor([0.2, 9.0, 0.3])]
    pruned = least_important(blocks, scores, 0.5)
    assert [pruned[index].tolist() for index in range(3)] == [
        [False, True, False],
        [True, False],
        [True, False, True],
    ]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_shares_of_nothing_and_everything_are_refused(victim: Victim, share: float) -> None:
    with pytest.raises(InvalidRequest, match="share"):
        magnitude_pruned(victim, share)
    with pytest.raises(InvalidRequest, match="share"):
        structure_pruned(victim, share, TEXTS)


def test_structure_pruning_needs_texts(victim: Victim) -> None:
    with pytest.raises(InvalidRequest, match="calibration"):
        structure_pruned(victim, 0.25, [[5]])
