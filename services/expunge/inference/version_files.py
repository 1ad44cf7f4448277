"""What must hold of a version before an engine takes it, whatever the backend."""

from __future__ import annotations

from pathlib import Path

from expunge.errors import DataLoss, FailedPrecondition, InvalidAdapter
from expunge.lora.adapter import Adapter
from expunge.lora.files import version_id
from expunge.lora.shape import ModelShape
from expunge.lora.validation import validate_adapter
from expunge.models.manifest import base_version_id
from expunge.registry.records import VersionKind, VersionRecord


def check_base(record: VersionRecord, digest: str) -> None:
    """Refuse a version of another base model than the one with manifest digest `digest`.

    Raises:
        FailedPrecondition: naming both.
    """
    is_other = record.base_digest != digest or (
        record.kind is VersionKind.BASE and record.id != base_version_id(digest)
    )
    if is_other:
        raise FailedPrecondition(
            f"version {record.id} belongs to base model {record.base_digest[:16]}…, this replica serves "
            f"{digest[:16]}…; train it on the base model that is served",
            reason="OTHER_BASE_MODEL",
            metadata={"version": record.id},
        )


def read_version(record: VersionRecord, folder: Path | None, shape: ModelShape, max_rank: int) -> Adapter:
    """The adapter of `record` from its files, checked against its id and the base model. Blocks.

    Raises:
        InvalidAdapter: there are no files, or they do not fit.
        DataLoss: they are those of another version.
    """
    if folder is None:
        raise InvalidAdapter(f"version {record.id} has no files; push it again")
    found = version_id(folder)
    if found != record.id:
        raise DataLoss(f"the files of version {record.id} have become {found}; push it again")
    return validate_adapter(folder, shape, max_rank=max_rank)
