"""The safetensors container, read without torch: an 8-byte length, a JSON header, then the tensors' bytes.

Everything a file claims is checked against its size before anything is mapped or copied, so that hostile
bytes cost no more than the header's limit. Format: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 16 * 2**20
ITEM_BYTES: Mapping[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
_PICKLE_OR_ZIP = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


class MalformedTensorFile(ValueError):
    """The bytes are no well-formed safetensors file; the message says why, without the file's name."""


@dataclass(frozen=True)
class TensorInfo:
    """What the header says of one tensor; `begin` and `end` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class TensorHeader:
    """The parsed header: tensors by name, and the free-form metadata."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(path: Path) -> TensorHeader:
    """Parse and check the header of a safetensors file.

    Raises:
        MalformedTensorFile: a pickle or zip, a truncated or overlong file, a header that is no JSON object of
            tensors, an unknown dtype, a shape that disagrees with its bytes, gaps or overlaps.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(_PICKLE_OR_ZIP):
            raise MalformedTensorFile(
                "it is a Python pickle or zip, not safetensors; pickles are never opened"
            )
        if len(start) < 8:
            raise MalformedTensorFile(f"it is only {size} bytes long, too short for a safetensors header")
        (length,) = struct.unpack("<Q", start)
        if length > MAX_HEADER_BYTES:
            raise MalformedTensorFile(f"its header claims {length} bytes, the limit is {MAX_HEADER_BYTES}")
        if 8 + length > size:
            raise MalformedTensorFile(f"its header claims {length} bytes, but the file has {size}: truncated")
        raw = file.read(length)
    return _parse(raw, data_bytes=size - 8 - length)


def _parse(raw: bytes, data_bytes: int) -> TensorHeader:
    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, MalformedTensorFile):
            raise
        raise MalformedTensorFile("its header is not valid JSON") from error
    if not isinstance(entries, dict):
        raise MalformedTensorFile("its header is not a JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise MalformedTensorFile("its __metadata__ is not a map of strings")
    tensors = {name: _tensor(name, entry) for name, entry in entries.items()}
    end = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != end:
            raise MalformedTensorFile(f"tensor {name!r} overlaps another or leaves a gap")
        end = info.end
    if end != data_bytes:
        fault = "truncated" if end > data_bytes else "it has trailing bytes"
        raise MalformedTensorFile(f"its tensors need {end} bytes, the file holds {data_bytes}: {fault}")
    return TensorHeader(tensors, metadata)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedTensorFile("its header names a tensor twice")
    return found


def _tensor(name: str, entry: Any) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise MalformedTensorFile(f"the entry of tensor {name!r} lacks dtype, shape or data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise MalformedTensorFile(f"tensor {name!r} has the unknown dtype {str(dtype)[:20]!r}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise MalformedTensorFile(f"tensor {name!r} has a malformed shape or data_offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
        raise MalformedTensorFile(f"tensor {name!r} of shape {shape} does not fit its {end - begin} bytes")
    return TensorInfo(dtype, tuple(shape), begin, end)


def _are_counts(values: Any) -> bool:
    """A list of at most eight non-negative integers."""
    return (
        isinstance(values, list)
        and len(values) <= 8
        and all(type(value) is int and 0 <= value < 2**48 for value in values)
    )
