"""The module tree that is trained: PEFT's LoRA layers over base weights it does not own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from expunge.lora.adapter import Adapter, Pair
from expunge.lora.config import AdapterConfig
from expunge.lora.shape import ModelShape

TARGET_MODULES = ("q_proj", "v_proj", "up_proj", "down_proj")
_NAME = "default"


class TrainableTree:
    """A model with LoRA factors in place; only they take gradients.

    Args:
        model: a plain causal LM that nobody else computes with; its weights may be shared. Changed in place.
        config: rank, alpha and adapted modules.
        base_digest: of the model, for the adapters that come out.
        seed: of fresh factors: A random, B zero, so that nothing changes until training does.
    """

    def __init__(
        self, model: PreTrainedModel, config: AdapterConfig, base_digest: str, seed: int = 0
    ) -> None:
        peft_config = LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            target_modules=list(config.target_modules),
            rank_pattern=dict(config.rank_pattern),
            alpha_pattern=dict(config.alpha_pattern),
            use_rslora=config.rslora,
            layers_to_transform=list(config.layers) if config.layers is not None else None,
            lora_dropout=0.0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(peft_config, model, adapter_name=_NAME)
        self.model = model
        self.config = replace(config, base_digest=base_digest)
        self.layers = {
            name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)
        }
        for path, layer in self.layers.items():
            layer.scaling[_NAME] = config.scale_of(path)
        self._free_factors()

    @classmethod
    def fresh(
        cls,
        model: PreTrainedModel,
        base_digest: str,
        *,
        rank: int = 16,
        alpha: float = 32.0,
        target_modules: tuple[str, ...] = TARGET_MODULES,
        seed: int = 0,
    ) -> TrainableTree:
        """Fresh factors on those of `target_modules` that the model has (all linear layers if none)."""
        names = {path.rpartition(".")[2] for path in ModelShape.of(model, base_digest).modules}
        targets = tuple(name for name in target_modules if name in names) or tuple(sorted(names))
        return cls(model, AdapterConfig(rank, alpha, targets), base_digest, seed)

    @classmethod
    def of(cls, model: PreTrainedModel, adapter: Adapter, base_digest: str) -> TrainableTree:
        """An adapter's factors, to be trained on."""
        config = replace(adapter.config, target_modules=tuple(sorted(adapter.pairs)))
        tree = cls(model, config, base_digest)
        tree.load(adapter)
        tree.config = replace(adapter.config, base_digest=base_digest)
        return tree

    @torch.no_grad()
    def load(self, adapter: Adapter) -> None:
        """Set the factors."""
        for path, layer in self.layers.items():
            layer.lora_A[_NAME].weight.copy_(adapter.pairs[path].a)
            layer.lora_B[_NAME].weight.copy_(adapter.pairs[path].b)

    def adapter(self) -> Adapter:
        """The factors as they are now, copied."""
        pairs = {
            path: Pair(
                layer.lora_A[_NAME].weight.detach().clone(), layer.lora_B[_NAME].weight.detach().clone()
            )
            for path, layer in self.layers.items()
        }
        return Adapter(self.config, pairs)

    @contextmanager
    def base_only(self) -> Iterator[None]:
        """The base model alone, for as long as the context lasts."""
        for layer in self.layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enable_adapters(True)
            self._free_factors()

    def _free_factors(self) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name)
