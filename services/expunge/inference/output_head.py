"""The output head on a CPU, where few rows are computed in chunks of its outputs."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

CHUNK = 512  # outputs at a time
FEW_ROWS = range(4, 16)


class OutputHead(nn.Linear):
    """A linear layer that computes a few rows in chunks of its outputs.

    MKL's fp32 product of 4 to 15 rows with a whole vocabulary takes up to five times as long as reading the
    weights; in chunks it takes twice as long (docs/performance.md). With fewer rows, or more, the whole is as
    good. It keeps the very weight of the layer it replaces, under the same name.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.weight = linear.weight
        self.bias = linear.bias

    @classmethod
    def install(cls, model: PreTrainedModel) -> None:
        """Replace the head of `model` where that helps: a plain fp32 layer without bias on a CPU."""
        head = model.get_output_embeddings()
        if type(head) is nn.Linear and head.bias is None and _is_cpu_fp32(head.weight):
            model.set_output_embeddings(cls(head))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., in] → [..., out]."""
        rows = x.reshape(-1, self.in_features)
        if len(rows) not in FEW_ROWS or torch.is_grad_enabled():
            return super().forward(x)
        out = rows.new_empty(len(rows), self.out_features)
        for start in range(0, self.out_features, CHUNK):
            torch.mm(rows, self.weight[start : start + CHUNK].T, out=out[:, start : start + CHUNK])
        return out.view(*x.shape[:-1], self.out_features)


def _is_cpu_fp32(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype is torch.float32
