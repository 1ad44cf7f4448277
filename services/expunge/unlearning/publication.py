"""A trained adapter becomes a version: written, validated, stored, registered."""

from __future__ import annotations

import tempfile
from pathlib import Path

from expunge.lora.adapter import Adapter
from expunge.lora.files import TENSORS_NAME, version_id
from expunge.lora.peft_format import write_adapter
from expunge.lora.shape import ModelShape
from expunge.lora.validation import validate_adapter
from expunge.registry.blobs import BlobStore, adapter_key
from expunge.registry.records import VersionKind, VersionRecord


def store_version(
    adapter: Adapter,
    blobs: BlobStore,
    shape: ModelShape,
    *,
    name: str,
    parent: str,
    source: str,
    max_rank: int,
) -> VersionRecord:
    """Store an adapter's two files under its version id; returns the record to register.

    Safe to repeat: equal factors have an equal id, and a folder that is complete is not written again.

    Raises:
        InvalidAdapter: it does not fit the base model, or a factor is not finite.
    """
    with tempfile.TemporaryDirectory(prefix="expunge-adapter-") as temporary:
        folder = Path(temporary)
        write_adapter(adapter, folder)
        validate_adapter(folder, shape, max_rank=max_rank)
        version = version_id(folder)
        size = (folder / TENSORS_NAME).stat().st_size
        blob = adapter_key(version)
        blobs.put_folder(folder, blob)
    return VersionRecord(
        id=version,
        kind=VersionKind.ADAPTER,
        name=name,
        base_digest=shape.base_digest,
        rank=adapter.rank,
        size_bytes=size,
        blob=blob,
        parent=parent,
        source=source,
    )
