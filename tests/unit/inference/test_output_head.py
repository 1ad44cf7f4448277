"""The head in chunks: the same numbers as the plain layer, for any number of rows."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from expunge.inference.output_head import CHUNK, OutputHead
from expunge.models.load import LoadedModel


@pytest.mark.parametrize("rows", [1, 3, 4, 8, 15, 16, 40])
@pytest.mark.parametrize("outputs", [CHUNK // 2, 3 * CHUNK + 7])
def test_it_computes_what_the_plain_layer_does(rows: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    linear = nn.Linear(24, outputs, bias=False)
    x = torch.randn(rows, 1, 24, generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(OutputHead(linear)(x), linear(x), rtol=1e-6, atol=1e-6)


def test_gradients_flow_as_through_the_plain_layer() -> None:
    linear = nn.Linear(24, 600, bias=False)
    x = torch.randn(8, 24, requires_grad=True)
    OutputHead(linear)(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, linear.weight.sum(0).expand(8, -1))


def test_only_a_plain_fp32_head_is_replaced_and_keeps_its_weight(loaded: LoadedModel) -> None:
    weight = loaded.model.get_output_embeddings().weight
    names = set(loaded.model.state_dict())
    OutputHead.install(loaded.model)
    head = loaded.model.get_output_embeddings()
    assert type(head) is OutputHead
    assert head.weight is weight
    assert set(loaded.model.state_dict()) == names
    half = loaded.model.to(torch.bfloat16)
    half.set_output_embeddings(nn.Linear(4, 4, bias=False, dtype=torch.bfloat16))
    OutputHead.install(half)
    assert type(half.get_output_embeddings()) is nn.Linear
