"""The base model as the service publishes it: its folder, digest and shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from expunge.config import Settings
from expunge.lora.shape import ModelShape
from expunge.models.manifest import base_version_id, manifest_digest
from expunge.models.source import resolve_folder
from expunge.models.special_tokens import special_tokens
from expunge.registry.blobs import BlobStore
from expunge.registry.client import RegistryClient
from expunge.registry.records import VersionKind, VersionRecord


@dataclass(frozen=True)
class BaseModel:
    """A model that was found and checked, not loaded."""

    folder: Path
    digest: str

    @classmethod
    def find(cls, settings: Settings) -> BaseModel:
        """Resolves the setting `model`, converting it into the cache the first time.

        Raises:
            ModelError: missing, partial, corrupt, or no causal language model.
        """
        folder = resolve_folder(settings.model, settings.cache)
        return cls(folder, manifest_digest(folder, cache=settings.cache))

    @property
    def version(self) -> str:
        """Id of the base version."""
        return base_version_id(self.digest)

    def shape(self) -> ModelShape:
        """Its linear layers."""
        from expunge.models.skeleton import empty_model  # imports transformers; gateways start without it

        return ModelShape.of(empty_model(self.folder), self.digest)


def shape_key(digest: str) -> str:
    """Key of the blob with a base model's shape; gateways validate adapters by it, without the model."""
    return f"models/{digest}/shape.json"


def tokenizer_key(digest: str) -> str:
    """Key of the blob with a base model's tokenizer.json; gateways read prompts of token ids by it."""
    return f"models/{digest}/tokenizer.json"


def special_tokens_key(digest: str) -> str:
    """Key of the blob with the texts of a base model's special tokens; gateways read prompts without them."""
    return f"models/{digest}/special_tokens.json"


async def publish_base(registry: RegistryClient, settings: Settings, base: BaseModel) -> None:
    """Stores shape and tokenizer, and makes the base version and the default alias known to the registry.

    Raises:
        FailedPrecondition: the state folder belongs to another base model.
    """
    blobs = BlobStore(settings.resolved_blob_url)
    blobs.put_bytes(shape_key(base.digest), base.shape().to_json().encode())
    special = json.dumps(special_tokens(base.folder)).encode()
    blobs.put_bytes(special_tokens_key(base.digest), special)
    tokenizer = base.folder / "tokenizer.json"
    if tokenizer.is_file():  # a model without one can't be asked by token ids
        blobs.put_bytes(tokenizer_key(base.digest), tokenizer.read_bytes())
    await registry.ensure_base(VersionRecord(base.version, VersionKind.BASE, "base", base.digest))
