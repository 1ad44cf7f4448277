"""Forward passes of the base model with a version per row: prefill of packed prompts, decode of many rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from expunge.inference.elastic_threads import ElasticThreads
from expunge.inference.kv import KvPool, KvScratch
from expunge.inference.output_head import OutputHead
from expunge.inference.prefix_tree import PrefixTree
from expunge.lora.slots import SlotTable
from expunge.models.load import LoadedModel


class ModelRunner:
    """The base model with its slot table. Not safe for use from two threads at once.

    Results do not depend on what else is in the batch, beyond the last bits that another shape of the same
    matrix product may change.
    """

    def __init__(
        self, loaded: LoadedModel, slots: int, max_rank: int, threads: ElasticThreads | None = None
    ) -> None:
        self.model = loaded.model.eval()
        self._threads = threads
        OutputHead.install(self.model)
        self.table = SlotTable.install(self.model, slots, max_rank, base_digest=loaded.digest)
        self.device = self.model.device
        self.dtype = self.model.dtype
        self.context = context_limit(self.model)
        self.vocabulary = int(self.model.get_input_embeddings().weight.shape[0])

    def prefill(self, tree: PrefixTree, slot: int, wanted: Sequence[int]) -> tuple[Tensor, KvScratch]:
        """Run a packed tree in one pass.

        Returns:
            logits after the nodes `wanted`, [len(wanted), vocabulary], and the keys and values of all nodes.
        """
        scratch = KvScratch()
        logits = self._forward(
            scratch,
            torch.tensor([list(tree.tokens)]),
            torch.tensor([list(tree.positions)]),
            torch.from_numpy(tree.visibility())[None, None],
            [slot],
            keep=torch.tensor(list(wanted), dtype=torch.long),
        )
        return logits[0], scratch

    def is_sound(self, slot: int, token: int) -> bool:
        """Whether the version in `slot` computes finite logits; also its first run, which warms it up."""
        tree = PrefixTree()
        tree.add(0, [token, token])
        logits, _ = self.prefill(tree, slot, [1])
        return bool(logits.isfinite().all())

    def decode(self, pool: KvPool, tokens: Sequence[int], slots: Sequence[int]) -> Tensor:
        """One token for every active row of `pool`.

        Returns:
            logits [rows, vocabulary].
        """
        positions = pool.begin_step()
        visible = torch.arange(pool.step_length) <= positions[:, None]
        logits = self._forward(
            pool,
            torch.tensor(tokens)[:, None],
            positions[:, None],
            visible[:, None, None],
            slots,
            keep=torch.zeros(1, dtype=torch.long),
        )
        pool.end_step()
        return logits[:, 0]

    @torch.inference_mode()
    def _forward(
        self,
        cache: Cache,
        tokens: Tensor,
        positions: Tensor,
        visible: Tensor,
        slots: Sequence[int],
        keep: Tensor,
    ) -> Tensor:
        """tokens, positions [rows, tokens]; visible [rows, 1, tokens, keys]; slots [rows]; keep [kept]."""
        if self._threads:
            self._threads.adjust()
        mask = torch.zeros(visible.shape, dtype=self.dtype).masked_fill_(~visible, float("-inf"))
        with self.table.rows(slots):
            output = self.model(
                input_ids=tokens.to(self.device),
                position_ids=positions.to(self.device),
                attention_mask=mask.to(self.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=keep.to(self.device),
            )
        return cast(Tensor, output.logits)  # [rows, kept, vocabulary]


def context_limit(model: PreTrainedModel) -> int:
    """Positions the model can attend over; a sliding window counts, since rows keep every token."""
    config = model.config.get_text_config()
    limits = [getattr(config, "max_position_embeddings", None), getattr(config, "sliding_window", None)]
    return min(int(limit) for limit in limits if limit)
