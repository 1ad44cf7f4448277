"""Weights of linear layers in the order in which the kernels read them, in fp32 or in bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from expunge.inference.native.kernels import BLOCK, PANEL, Kernels


class PackedWeight:
    """A weight [out, in], with its products and its rows in fp32; the tensor it is made of is not kept.

    Args:
        kernels: multiply.
        weight: fp32, on the CPU.
        held: float32 or bfloat16; in the latter it is rounded, if its numbers don't fit as they are.
    """

    def __init__(self, kernels: Kernels, weight: Tensor, held: torch.dtype) -> None:
        self._kernels = kernels
        self.out_width, in_width = weight.shape
        padded = functional.pad(weight.detach().to(held), (0, 0, 0, -self.out_width % PANEL))
        if held is torch.bfloat16:  # outputs j and BLOCK + j of a panel are neighbours
            split = padded.view(-1, PANEL // BLOCK, BLOCK, in_width)
            self.numbers = split.permute(0, 3, 2, 1).reshape(-1, in_width, PANEL)
        else:
            self.numbers = padded.view(-1, PANEL, in_width).transpose(1, 2).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., in], contiguous → [..., out]."""
        return self._kernels.multiply(x, self.numbers, self.out_width)

    def rows(self, indices: Tensor) -> Tensor:
        """The weight's rows at `indices`, in fp32: [..., in]."""
        lanes = indices % PANEL
        if self.numbers.dtype is torch.bfloat16:
            lanes = lanes % BLOCK * (PANEL // BLOCK) + lanes // BLOCK
        return self.numbers[indices // PANEL, :, lanes].float()


class PackedProducts:
    """What the kernels do for linear layers whose weights they hold; see `lora.linear.Products`."""

    def __init__(self, kernels: Kernels, held: torch.dtype) -> None:
        self.kernels = kernels
        self._held = held
        self.add_adapters = kernels.add_adapters

    def pack(self, weight: Tensor) -> PackedWeight:
        """The weight [out, in] of a layer."""
        return PackedWeight(self.kernels, weight, self._held)
