"""Hostile bytes never get past the header check, and never raise anything but its own error."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from expunge.models.tensorfile import MalformedTensorFile, read_header


def container(header: object, data: bytes = b"") -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_header_of_a_saved_file_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    (tmp_path / "x").write_bytes(save(tensors, metadata={"format": "pt"}))
    header = read_header(tmp_path / "x")
    assert {name: (info.dtype, info.shape) for name, info in header.tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("BF16", (4,)),
    }
    assert header.metadata == {"format": "pt"}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "too short"),
        (b"\x80\x04\x95rest of a pickle", "pickle"),
        (b"PK\x03\x04rest of a zip", "pickle or zip"),
        (struct.pack("<Q", 2**40), "limit"),
        (struct.pack("<Q", 100) + b"{}", "truncated"),
        (struct.pack("<Q", 3) + b"\xff\xfe{", "not valid JSON"),
        (container([1]), "not a JSON object"),
        (container({"__metadata__": {"a": 1}}), "__metadata__"),
        (container({"a": {"dtype": "F32"}}), "lacks"),
        (container({"a": entry(0, 4, [1], "F99")}, bytes(4)), "unknown dtype"),
        (container({"a": entry(0, 4, [-1])}, bytes(4)), "malformed"),
        (container({"a": entry(0, 4, [2])}, bytes(4)), "does not fit"),
        (container({"a": entry(0, 4, [2**40, 2**40])}, bytes(4)), "does not fit"),
        (container({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, bytes(4)), "overlaps"),
        (container({"a": entry(4, 8, [1])}, bytes(8)), "gap"),
        (container({"a": entry(0, 4, [1])}, bytes(3)), "truncated"),
        (container({"a": entry(0, 4, [1])}, bytes(9)), "trailing"),
        (struct.pack("<Q", 16) + b'{"a":1,"a":1}   ', "twice"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "not valid JSON"),
    ],
)
def test_fault_is_named(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(MalformedTensorFile, match=fault):
        read_header(tmp_path / "x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
entries = st.fixed_dictionaries({"dtype": json_values, "shape": json_values, "data_offsets": json_values})


@given(
    st.binary(max_size=200)
    | st.builds(container, json_values, st.binary(max_size=20))
    | st.builds(
        container, st.dictionaries(st.text(max_size=5), entries | json_values), st.binary(max_size=20)
    )
)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-bytes"
    path.write_bytes(content)
    with contextlib.suppress(MalformedTensorFile):
        read_header(path)
