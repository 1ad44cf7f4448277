"""Versions a worker holds: fetched from the blob store and checked; the least recently used goes."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from pathlib import Path

from expunge.errors import DataLoss
from expunge.inference.local import LocalModel
from expunge.lora.adapter import Adapter
from expunge.lora.files import version_id
from expunge.lora.shape import ModelShape
from expunge.lora.validation import validate_adapter
from expunge.registry.blobs import BlobStore
from expunge.registry.records import VersionKind, VersionRecord


class ResidentVersions:
    """Adapters in memory and in the slots of a worker's model.

    Args:
        model: the model in serving form.
        blobs: where versions' folders are.
        shape: of the base model, to validate against.
        max_rank: highest rank accepted.
        capacity: versions held at once, the base not counted.
    """

    def __init__(
        self, model: LocalModel, blobs: BlobStore, shape: ModelShape, *, max_rank: int, capacity: int = 4
    ) -> None:
        self._model = model
        self._blobs = blobs
        self._shape = shape
        self._max_rank = max_rank
        self._capacity = capacity
        self._held: OrderedDict[str, Adapter] = OrderedDict()

    def ensure(self, record: VersionRecord) -> Adapter | None:
        """Make a version answer in the model; returns its factors, None for the base version.

        Raises:
            NotFound: its blob is gone.
            InvalidAdapter: it does not fit the base model.
            DataLoss: its bytes are not those it is named by.
        """
        if record.kind is VersionKind.BASE:
            return None
        if record.id not in self._held:
            adapter = self._fetch(record)
            while len(self._held) >= self._capacity:
                oldest, _ = self._held.popitem(last=False)
                self._model.unload(oldest)
            self._model.load_adapter(record.id, adapter)
            self._held[record.id] = adapter
        self._held.move_to_end(record.id)
        return self._held[record.id]

    def _fetch(self, record: VersionRecord) -> Adapter:
        with tempfile.TemporaryDirectory(prefix="expunge-version-") as folder:
            self._blobs.fetch_folder(record.blob, Path(folder))
            if version_id(Path(folder)) != record.id:
                raise DataLoss(
                    f"blob {record.blob} has other bytes than version {record.id} is named by; push it again"
                )
            return validate_adapter(Path(folder), self._shape, max_rank=self._max_rank)
