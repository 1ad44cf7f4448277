"""Which weights go together: what LLM-Pruner (Ma et al., arXiv 2305.11627) removes as one.

In attention a key/value head with the query heads that read it: their rows of q, k and v, and their columns
of o. In the feed-forward part a neuron: its rows of gate and up, and its column of down. With the columns
zero a group adds nothing to the residual stream, so zeroing it computes what cutting it out would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from expunge.errors import ModelError
from expunge.lora.shape import ModelShape


@dataclass(frozen=True)
class Part:
    """One module's share of a block's groups: group g has rows (or columns) [g · width, (g + 1) · width).

    Attributes:
        axis: 0: rows (outputs); 1: columns (inputs).
    """

    path: str
    axis: int
    width: int

    def grouped(self, weight: Tensor) -> Tensor:
        """The numbers of `weight` [out, in] by group, [groups, numbers of one]."""
        lines = weight if self.axis == 0 else weight.T  # [groups · width, other width]
        return lines.reshape(lines.shape[0] // self.width, -1)


@dataclass(frozen=True)
class Block:
    """One attention or feed-forward part of one layer, as `count` groups of which each can go.

    Attributes:
        kind: "attention" or "mlp".
    """

    kind: str
    count: int
    parts: tuple[Part, ...]


def blocks_of(model: PreTrainedModel) -> tuple[Block, ...]:
    """Every block of `model` whose groups are known, in the order of the layers.

    Raises:
        ModelError: the layers do not have the names that Llama and its kin give them.
    """
    shape = ModelShape.of(model, "").modules
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    found = []
    for path in shape:
        prefix, _, name = path.rpartition(".")
        if name == "q_proj":
            query = shape[path][1] // key_heads
            found.append(Block("attention", key_heads, _attention(prefix, query, query * key_heads // heads)))
        elif name == "gate_proj":
            found.append(Block("mlp", shape[path][1], _mlp(prefix)))
    missing = {part.path for block in found for part in block.parts} - shape.keys()
    if not found or missing:
        raise ModelError(
            f"{type(model).__name__} has no q, k, v, o and gate, up, down projections to be pruned in "
            "groups; attack it by magnitude"
        )
    return tuple(found)


def _attention(prefix: str, query: int, head: int) -> tuple[Part, ...]:
    """`query`: width of the query heads that share a key head, `head`: of that key head."""
    rows = (("q_proj", query), ("k_proj", head), ("v_proj", head))
    parts = [Part(f"{prefix}.{name}", 0, width) for name, width in rows]
    return (*parts, Part(f"{prefix}.o_proj", 1, query))


def _mlp(prefix: str) -> tuple[Part, ...]:
    rows = [Part(f"{prefix}.{name}", 0, 1) for name in ("gate_proj", "up_proj")]
    return (*rows, Part(f"{prefix}.down_proj", 1, 1))


def keep_masks(blocks: tuple[Block, ...], pruned: Mapping[int, Tensor]) -> dict[str, tuple[int, Tensor]]:
    """Module path → axis and, for every line along it, whether it stays.

    Args:
        pruned: index of a block → bool [count], true for the groups that go.
    """
    return {
        part.path: (part.axis, torch.repeat_interleave(~gone, part.width))
        for index, gone in pruned.items()
        for part in blocks[index].parts
    }
