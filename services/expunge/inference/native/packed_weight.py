"""Weights of linear layers in the order in which the kernels read them, in fp32 or in bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from expunge.inference.native.kernels import BLOCK, PANEL, Kernels
from expunge.lora.linear import PackedLayer, RowTable


class PackedWeight:
    """A weight [out, in], with its rows in fp32; the tensor it is made of is not kept.

    Args:
        weight: fp32, on the CPU.
        held: float32 or bfloat16; in the latter it is rounded, if its numbers don't fit as they are.
    """

    def __init__(self, weight: Tensor, held: torch.dtype) -> None:
        self.out_width, in_width = weight.shape
        padded = functional.pad(weight.detach().to(held), (0, 0, 0, -self.out_width % PANEL))
        if held is torch.bfloat16:  # outputs j and BLOCK + j of a panel are neighbours
            split = padded.view(-1, PANEL // BLOCK, BLOCK, in_width)
            self.numbers = split.permute(0, 3, 2, 1).reshape(-1, in_width, PANEL)
        else:
            self.numbers = padded.view(-1, PANEL, in_width).transpose(1, 2).contiguous()

    def rows(self, indices: Tensor) -> Tensor:
        """The weight's rows at `indices`, in fp32: [..., in]."""
        lanes = indices % PANEL
        if self.numbers.dtype is torch.bfloat16:
            lanes = lanes % BLOCK * (PANEL // BLOCK) + lanes // BLOCK
        return self.numbers[indices // PANEL, :, lanes].float()


class JointProduct:
    """Linear layers that share their input, with the adapters of its tokens, in one call of a kernel.

    Args:
        layers: their weights are all in one format.
    """

    def __init__(self, kernels: Kernels, layers: Sequence[PackedLayer]) -> None:
        self._kernels = kernels
        self._layers = tuple(layers)  # keeps alive what has its address below
        weights = [cast(PackedWeight, layer.weight) for layer in layers]
        self._is_half = weights[0].numbers.dtype is torch.bfloat16
        self._widths = [weight.out_width for weight in weights]
        self._starts = [sum(self._widths[:at]) for at in range(len(weights))]
        self._table = torch.tensor(
            [
                (weight.numbers.data_ptr(), 0 if bias is None else bias.data_ptr(), weight.out_width, index)
                for weight, bias, index in (
                    (cast(PackedWeight, one.weight), one.bias, one.index) for one in layers
                )
            ]
        )

    def __call__(self, x: Tensor, table: RowTable | None = None) -> tuple[Tensor, ...]:
        """x [tokens, 1, in], contiguous → [tokens, 1, out] of every layer."""
        rows = len(x)
        out = self._kernels.multiply(x, self._table, sum(self._widths), self._is_half, table)
        return tuple(
            out.as_strided((rows, 1, width), (width, width, 1), rows * start)
            for width, start in zip(self._widths, self._starts, strict=True)
        )


class PackedProducts:
    """What the kernels do for linear layers whose weights they hold; see `lora.linear.Products`."""

    def __init__(self, kernels: Kernels, held: torch.dtype) -> None:
        self.kernels = kernels
        self._held = held

    def pack(self, weight: Tensor) -> PackedWeight:
        """The weight [out, in] of a layer."""
        return PackedWeight(weight, self._held)

    def join(self, layers: Sequence[PackedLayer]) -> JointProduct:
        """The product of layers that share their input; their weights are of `pack`."""
        return JointProduct(self.kernels, layers)
