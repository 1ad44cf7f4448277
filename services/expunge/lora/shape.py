"""Which modules of a base model can carry an adapter, and how wide they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ModelShape:
    """Widths of every linear layer by module path, enough to validate an adapter without the model.

    The output layer and embeddings are left out: adapters on them are not supported.

    Attributes:
        modules: module path → (in width, out width).
        base_digest: manifest digest of the base model.
    """

    modules: Mapping[str, tuple[int, int]]
    base_digest: str

    @classmethod
    def of(cls, model: PreTrainedModel, base_digest: str) -> ModelShape:
        """The shape of a model; one on the meta device (`models.skeleton.empty_model`) will do."""
        from torch import nn  # not at the top: who only validates starts without it

        output = model.get_output_embeddings()
        modules = {
            path: (module.in_features, module.out_features)
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not output
        }
        return cls(modules, base_digest)

    def to_json(self) -> str:
        return json.dumps({"base_digest": self.base_digest, "modules": self.modules}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelShape:
        fields = json.loads(text)
        modules = {path: (int(widths[0]), int(widths[1])) for path, widths in fields["modules"].items()}
        return cls(modules, str(fields["base_digest"]))
