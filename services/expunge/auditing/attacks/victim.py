"""The version under attack, and second models of it to take apart; the served one never changes.

A second model shares every tensor with the served one, but for those that an attack replaces. Nothing is ever
written into a tensor that is shared. An attack on all linear layers takes as much memory as these have
(425 MB for SmolLM2-135M in fp32), so attacks run one at a time, each freed before the next; a model whose
linear layers do not fit a second time would have to be attacked layer by layer, which is not built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from expunge.auditing.attacks.attacked_model import AttackedModel
from expunge.inference.elastic_threads import ElasticThreads
from expunge.inference.local import LocalModel
from expunge.lora.adapter import Adapter, Pair
from expunge.lora.shape import ModelShape
from expunge.models.load import LoadedModel
from expunge.models.skeleton import share_weights

Change = Callable[[str, Tensor], Tensor]  # module path, weight [out, in] fp32 → its replacement
_RESIDENT = "attacked"


@dataclass(frozen=True)
class FactoredModel:
    """A plain model that adds an adapter to its layers, whose factors take gradients.

    Attributes:
        model: everything but the factors is shared and frozen.
        factors: module path → A [rank, in] and B [out, rank], in the model's dtype.
    """

    model: PreTrainedModel
    factors: Mapping[str, Pair]

    @property
    def tensors(self) -> list[Tensor]:
        """All factors in a fixed order."""
        return [factor for pair in self.factors.values() for factor in (pair.a, pair.b)]


@dataclass(frozen=True)
class Victim:
    """One version of a base model.

    Attributes:
        loaded: the base model, as it is served or plain.
        version: id under which the attacked models answer, too.
        adapter: the version's factors; None for the base version.
        threads: adjusts torch's threads before every forward pass; None leaves them alone.
    """

    loaded: LoadedModel
    version: str
    adapter: Adapter | None = None
    threads: ElasticThreads | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of the linear layers that can be attacked: all but the output head."""
        return tuple(ModelShape.of(self.loaded.model, self.loaded.digest).modules)

    def weight(self, path: str) -> Tensor:
        """The merged weight of one module, W + scale · BA, [out, in] fp32, in memory of its own."""
        base = _weight(self.loaded.model, path).detach()
        merged = base.to(torch.float32, copy=True)
        if self.adapter is not None and path in self.adapter.pairs:
            merged += self.adapter.delta(path).to(base.device)
        return merged

    def merged(self, change: Change = lambda _, weight: weight) -> PreTrainedModel:
        """A plain model with merged weights, each passed through `change`, in the model's dtype."""
        twin = share_weights(self.loaded.model)
        for path in self.modules:
            module = twin.get_submodule(path)
            weight = change(path, self.weight(path)).to(module.weight.dtype)
            module.weight = nn.Parameter(weight, requires_grad=False)
        return twin

    def factored(self) -> FactoredModel:
        """A plain model that adds scale · B(Ax) to each adapted layer's output, as the served one does."""
        twin = share_weights(self.loaded.model)
        pairs = self.adapter.pairs if self.adapter is not None else {}
        factors = {}
        for path, pair in pairs.items():
            module = twin.get_submodule(path)
            a, b = (
                factor.detach().to(module.weight.device, module.weight.dtype, copy=True).requires_grad_()
                for factor in (pair.a, pair.b)
            )
            factors[path] = Pair(a, b)
            assert self.adapter is not None
            module.register_forward_hook(_adding(factors[path], self.adapter.config.scale_of(path)))
        return FactoredModel(twin, factors)

    @contextmanager
    def reweighted(self, change: Change) -> Iterator[AttackedModel]:
        """The version with every merged weight passed through `change`, to be asked; freed at the end."""
        loaded = replace(self.loaded, model=self.merged(change))
        local = LocalModel(loaded, slots=0, max_rank=1, threads=self.threads)
        with AttackedModel(local, local.base_version, self.version) as model:
            yield model

    @contextmanager
    def readapted(self, adapter: Adapter) -> Iterator[AttackedModel]:
        """The version with another adapter in place of its own, to be asked; no weight exists twice."""
        loaded = replace(self.loaded, model=share_weights(self.loaded.model))
        local = LocalModel(loaded, slots=1, max_rank=adapter.rank, threads=self.threads)
        local.load_adapter(_RESIDENT, adapter)
        with AttackedModel(local, _RESIDENT, self.version) as model:
            yield model


def _weight(model: PreTrainedModel, path: str) -> Tensor:
    weight: Tensor = model.get_submodule(path).weight
    return weight


def _adding(pair: Pair, scale: float) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    def add(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return output + scale * (inputs[0] @ pair.a.T @ pair.b.T)

    return add
