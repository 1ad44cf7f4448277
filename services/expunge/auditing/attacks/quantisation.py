"""Attack by quantisation: an erasure that is smaller than a rounding step is rounded away.

Unlearning that moves weights little can be undone by deploying the model in few bits (Zhang et al.,
arXiv 2410.16454). Weights alone are rounded, activations stay; embeddings and output head stay as they are,
as in the baselines below.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.auditing.attacks.attacked_model import AttackedModel
from expunge.auditing.attacks.victim import Victim
from expunge.errors import InvalidRequest


@dataclass(frozen=True)
class Quantisation:
    """How finely weights are rounded.

    Attributes:
        bits: of each weight, 2 to 8.
        group: inputs of one output that share a scale; 0: all of them.
    """

    bits: int
    group: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise InvalidRequest.of("bits", f"is {self.bits}; weights can be rounded to 2 to 8 bits")
        if self.group < 0:
            raise InvalidRequest.of("group", f"is {self.group}; give a number of inputs, or 0 for all")

    @property
    def name(self) -> str:
        return f"int{self.bits}"


INT8 = Quantisation(8)
INT4 = Quantisation(4, group=32)


def quantised(victim: Victim, how: Quantisation) -> AbstractContextManager[AttackedModel]:
    """The version with every linear layer's merged weight rounded; the context frees it at its end."""
    return victim.reweighted(lambda _, weight: round_to_nearest(weight, how))


def round_to_nearest(weight: Tensor, how: Quantisation) -> Tensor:
    """Symmetric rounding to the nearest of 2ᵇ − 1 levels, and back.

    s = max|w| / (2^(b−1) − 1) over the weights that share a scale, ŵ = s · round(w / s)

    With one scale an output it is the absmax rounding of weights in LLM.int8() (Dettmers et al.,
    arXiv 2208.07339), with groups the round-to-nearest baseline of GPTQ (Frantar et al., arXiv 2210.17323).
    No weight moves by more than s / 2.

    Args:
        weight: [out, in].

    Returns:
        ŵ [out, in], in the dtype of `weight`.
    """
    out_width, in_width = weight.shape
    group = how.group or in_width
    padded = torch.nn.functional.pad(weight, (0, -in_width % group))  # zeros: they widen no scale
    grouped = padded.view(out_width, -1, group)
    scale = grouped.abs().amax(dim=-1, keepdim=True) / (2 ** (how.bits - 1) - 1)  # [out, groups, 1]
    scale = scale.clamp_min(torch.finfo(weight.dtype).tiny)
    rounded: Tensor = (grouped / scale).round() * scale
    return rounded.view(out_width, -1)[:, :in_width].contiguous()
