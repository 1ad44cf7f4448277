"""Forward passes of the base model over flat batches: each token has a version and a place in the KV pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from expunge.errors import ModelError
from expunge.inference import fused_layers
from expunge.inference.block_pool import BLOCK, blocks_for
from expunge.inference.elastic_threads import ElasticThreads
from expunge.inference.flat_batch import FlatBatch, Piece
from expunge.inference.native.kernels import MAX_QUERIES, Kernels, load_kernels
from expunge.inference.native.packed_weight import PackedProducts
from expunge.inference.output_head import OutputHead
from expunge.inference.paged_kv import AttentionStep, KvShape, PagedKv
from expunge.inference.runner import context_limit
from expunge.lora.slots import SlotTable
from expunge.models.load import LoadedModel

ATTENTION = "expunge_paged"
_PROBE_TOKENS = BLOCK + 8  # across the border of two blocks
_PROBE_FIRST = BLOCK - 3  # in two pieces, neither of which ends at that border
_TOLERANCE = {torch.float32: 1e-3}  # of the largest logit; in other formats:
_COARSE_TOLERANCE = 5e-2


class BatchRunner:
    """The base model with its slot table and its KV pool. Not safe for use from two threads at once.

    Any causal LM of transformers whose attention goes through its attention interface will do. That it
    computes what the plain model does is checked once, before it serves.

    Args:
        loaded: the base model; its layers are replaced in place.
        slots: adapters resident at once.
        max_rank: highest adapter rank.
        kv_bytes: budget of the KV pool.
        threads: adjusts torch's threads before every forward pass; None leaves them alone.
        kernels_folder: where compiled kernels are kept; None: compute with torch alone.

    Raises:
        ModelError: the model can't be run this way.
        ConfigError: there is no memory for the pool.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        slots: int,
        max_rank: int,
        kv_bytes: int,
        threads: ElasticThreads | None = None,
        kernels_folder: Path | None = None,
    ) -> None:
        self.model = loaded.model.eval()
        self.device = self.model.device
        self.context = context_limit(self.model)
        self.vocabulary = int(self.model.get_input_embeddings().weight.shape[0])
        self._threads = threads
        self._probe_token = int(loaded.tokenizer.eos_token_id)
        expected = self._plain_logits()
        shape = KvShape.of(self.model.config, self.model.dtype)
        heads = int(self.model.config.get_text_config().num_attention_heads)
        self._group = heads // shape.kv_heads
        kernels = self._usable_kernels(shape, kernels_folder)
        self.kv = PagedKv(shape, shape.blocks_in(kv_bytes), self.device, kernels)
        self.table = SlotTable.install(self.model, slots, max_rank, base_digest=loaded.digest)
        if kernels is not None:
            products = PackedProducts(kernels, loaded.precision.weights)
            self.table.multiply_with(products)
            fused_layers.install(self.model, products)
        OutputHead.install(self.model)  # where it is still the plain one
        self._wanted: Tensor | None = None
        self._install_attention()
        self._check(loaded.version, expected)

    def run(self, batch: FlatBatch) -> Tensor:
        """One forward pass; the keys and values of all tokens are in the pool afterwards.

        Returns:
            logits after the wanted tokens, [wanted, vocabulary].
        """
        if self._threads:
            self._threads.adjust()
        self._wanted = batch.wanted.to(self.device)
        step = AttentionStep(batch, self._group, self.device)
        with torch.inference_mode(), self.table.rows(batch.slots):
            output = self.model(
                input_ids=batch.tokens[:, None].to(self.device),
                position_ids=batch.positions[:, None].to(self.device),
                use_cache=False,
                paged_kv=self.kv,
                paged_step=step,
            )
        logits: Tensor = output.logits[:, 0]
        return logits

    # --- installation

    def _usable_kernels(self, shape: KvShape, folder: Path | None) -> Kernels | None:
        fits = (
            self.device.type == "cpu"
            and shape.dtype is torch.float32
            and shape.head_dim % BLOCK == 0
            and self._group <= MAX_QUERIES
        )
        return load_kernels(folder) if fits and folder is not None else None

    def _install_attention(self) -> None:
        """Every layer attends over the pool, and the output head sees wanted tokens only."""
        AttentionInterface.register(ATTENTION, _attend)
        self.model.set_attn_implementation(ATTENTION)
        head = self.model.get_output_embeddings()
        if not isinstance(head, nn.Module):
            raise ModelError(f"{type(self.model).__name__} has no output layer to serve from")
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].index_select(0, self._wanted),))

    # --- the check

    def _probe(self) -> list[int]:
        step = max(1, self.vocabulary // (_PROBE_TOKENS + 1))
        return [(self._probe_token + index * step) % self.vocabulary for index in range(_PROBE_TOKENS)]

    @torch.inference_mode()
    def _plain_logits(self) -> Tensor:
        tokens = torch.tensor([self._probe()], device=self.device)
        logits: Tensor = self.model(input_ids=tokens, use_cache=False).logits[0]
        return logits

    def _check(self, base: str, expected: Tensor) -> None:
        """Compare with what the plain model said, [probe, vocabulary].

        Raises:
            ModelError: they differ.
        """
        slot, tokens = self.table.load_base(base), self._probe()
        blocks = range(blocks_for(len(tokens)))
        if len(blocks) > self.kv.blocks:
            raise ModelError("the KV cache holds less than two blocks; raise EXPUNGE_KV_CACHE_MIB")
        found = []
        for start, end in ((0, _PROBE_FIRST), (_PROBE_FIRST, len(tokens))):
            piece = Piece(tokens[start:end], start, blocks, slot, range(end - start))
            found.append(self.run(FlatBatch.of([piece])))
        self.table.unload(base)
        tolerance = _TOLERANCE.get(self.kv.shape.dtype, _COARSE_TOLERANCE)
        error = float((torch.cat(found) - expected).abs().max() / expected.abs().max())
        if not error <= tolerance:  # true for NaN, too
            raise ModelError(
                f"{type(self.model).__name__} computes something else over the paged KV cache (off by "
                f"{error:.2g} of its largest logit), so it can't be served; some part of its attention is "
                "not supported"
            )


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    paged_kv: PagedKv | None = None,
    paged_step: AttentionStep | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer: query [tokens, heads, 1, head_dim], key and value alike."""
    if paged_kv is None or paged_step is None:
        raise ModelError(f"{type(module).__name__} does not hand on what its attention needs to be served")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: int = module.layer_idx  # type: ignore[assignment]
    out = paged_kv.attend(layer, paged_step, query[:, :, 0], key[:, :, 0], value[:, :, 0], scale)
    return out[:, None], None
