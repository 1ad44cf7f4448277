"""Layers of well-known models computed by the engine's kernels: fewer passes over memory, fewer calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import SiLUActivation

from expunge.inference.native.kernels import BLOCK, Kernels
from expunge.inference.native.packed_weight import PackedProducts, PackedWeight
from expunge.inference.paged_kv import AttentionStep, PagedKv
from expunge.lora.linear import MultiAdapterLinear, PackedLayer, SharedInput

# Models of transformers whose layers compute exactly these formulas. Others keep their own: Gemma's norm, for
# one, adds 1 to the weight.
_NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
_ATTENTIONS = ("LlamaAttention", "MistralAttention", "Qwen2Attention")
_MLPS = ("LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP")
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


class FusedNorm(nn.Module):
    """Root mean square norm in one pass; keeps the weight of the layer it replaces."""

    def __init__(self, norm: nn.Module, kernels: Kernels) -> None:
        super().__init__()
        self.weight = cast(nn.Parameter, norm.weight)
        self.eps = cast(float, norm.variance_epsilon)
        self._kernels = kernels

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] → the same shape."""
        return self._kernels.rms_norm(x.contiguous(), self.weight, self.eps)


class FusedAttention(nn.Module):
    """Attention over the KV pool that rotates in place; keeps the linear layers it replaces."""

    def __init__(self, attention: nn.Module, products: PackedProducts) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = _layers(attention, _PROJECTIONS)
        self._inputs = SharedInput((self.q_proj, self.k_proj, self.v_proj), products)
        self.head_dim = cast(int, attention.head_dim)
        self.scaling = cast(float, attention.scaling)
        self.layer_idx = cast(int, attention.layer_idx)
        self._kernels = products.kernels

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        *,
        paged_kv: PagedKv,
        paged_step: AttentionStep,
        **_: object,
    ) -> tuple[Tensor, None]:
        """hidden_states [tokens, 1, width] → the same shape; cos and sin [tokens, 1, head_dim]."""
        tokens = hidden_states.shape[0]
        queries, keys, values = (
            projected.view(tokens, -1, self.head_dim) for projected in self._inputs(hidden_states)
        )
        cos, sin = position_embeddings
        self._kernels.rotate(queries, cos, sin)
        self._kernels.rotate(keys, cos, sin)
        out = paged_kv.attend(self.layer_idx, paged_step, queries, keys, values, self.scaling)
        return cast(Tensor, self.o_proj(out.view(tokens, 1, -1))), None


class FusedMlp(nn.Module):
    """Gated feed-forward layer whose gate is applied in one pass; keeps the linear layers it replaces."""

    def __init__(self, mlp: nn.Module, products: PackedProducts) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = _layers(mlp, _FEED_FORWARD)
        self._inputs = SharedInput((self.gate_proj, self.up_proj), products)
        self._kernels = products.kernels

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] → the same shape."""
        gate, up = self._inputs(x)
        return cast(Tensor, self.down_proj(self._kernels.silu_multiply(gate, up)))


class FusedHead(nn.Module):
    """Output head over a packed weight."""

    def __init__(self, weight: PackedWeight, bias: nn.Parameter | None, products: PackedProducts) -> None:
        super().__init__()
        self.bias = bias
        self._product = products.join([PackedLayer(weight, bias, 0)])

    def forward(self, x: Tensor) -> Tensor:
        """x [tokens, 1, width] → [tokens, 1, vocabulary]."""
        return self._product(x.contiguous())[0]


class FusedEmbedding(nn.Module):
    """Input embedding over a packed weight, which may be the output head's."""

    def __init__(self, weight: PackedWeight) -> None:
        super().__init__()
        self.num_embeddings = weight.out_width
        self._weight = weight

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [...] → [..., width]."""
        return self._weight.rows(tokens)


def install(model: PreTrainedModel, products: PackedProducts) -> None:
    """Replace what can be, in place: of an fp32 model on a CPU, where nothing takes gradients.

    Its linear layers have been given to `products` before, where their widths allow it.
    """
    for path, module in list(model.named_modules()):
        replacement = _replacement(module, products)
        if replacement is not None:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, replacement)
    _pack_ends(model, products)


def _pack_ends(model: PreTrainedModel, products: PackedProducts) -> None:
    """The output head and the input embedding; a weight that they share stays one.

    An embedding that does more than look up stays, and so does a head that shares its weight.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_plain = type(embedding) is nn.Embedding and _is_fp32_on_cpu(embedding.weight)
    if not (isinstance(head, nn.Linear) and _is_fp32_on_cpu(head.weight)):
        return
    is_shared = head.weight is embedding.weight
    if is_shared and not is_plain:
        return
    packed = products.pack(head.weight)
    model.set_output_embeddings(FusedHead(packed, head.bias, products))
    if is_plain:
        own = packed if is_shared else products.pack(cast(Tensor, embedding.weight))
        model.set_input_embeddings(FusedEmbedding(own))


def _replacement(module: nn.Module, products: PackedProducts) -> nn.Module | None:
    kind = type(module).__name__
    if kind in _NORMS:
        weight = cast(Tensor, module.weight)
        fits = _is_fp32_on_cpu(weight) and weight.shape[0] % BLOCK == 0
        return FusedNorm(module, products.kernels) if fits else None
    if kind in _ATTENTIONS and _are_packed(module, _PROJECTIONS):
        halves_fit = cast(int, module.head_dim) % (2 * BLOCK) == 0
        return FusedAttention(module, products) if halves_fit else None
    if kind in _MLPS and isinstance(module.act_fn, nn.SiLU | SiLUActivation):
        return FusedMlp(module, products) if _are_packed(module, _FEED_FORWARD) else None
    return None


def _layers(module: nn.Module, names: Sequence[str]) -> list[MultiAdapterLinear]:
    return [cast(MultiAdapterLinear, module.get_submodule(name)) for name in names]


def _are_packed(module: nn.Module, names: Sequence[str]) -> bool:
    return all(layer.packed is not None for layer in _layers(module, names))


def _is_fp32_on_cpu(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype is torch.float32
