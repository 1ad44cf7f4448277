"""A version's id is stable, and changes with one bit of what matters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from expunge.errors import InvalidAdapter
from expunge.lora.files import CONFIG_NAME, TENSORS_NAME, combine, read_config, tensors_digest, version_id
from expunge.lora.peft_format import read_adapter, write_adapter
from expunge.lora.shape import ModelShape
from lora_cases import random_adapter


@pytest.fixture
def folder(tiny_shape: ModelShape, tmp_path: Path) -> Path:
    write_adapter(random_adapter(tiny_shape), tmp_path / "adapter")
    return tmp_path / "adapter"


def test_id_is_the_same_for_equal_adapters(folder: Path, tiny_shape: ModelShape, tmp_path: Path) -> None:
    write_adapter(random_adapter(tiny_shape), tmp_path / "again")
    write_adapter(read_adapter(folder), tmp_path / "copied")
    assert version_id(folder) == version_id(tmp_path / "again") == version_id(tmp_path / "copied")
    assert len(version_id(folder)) == 64


def test_one_bit_of_a_factor_changes_the_id(folder: Path) -> None:
    before = version_id(folder)
    content = bytearray((folder / TENSORS_NAME).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS_NAME).write_bytes(content)
    assert version_id(folder) != before


def test_changed_alpha_changes_the_id_and_reordered_config_does_not(folder: Path) -> None:
    before = version_id(folder)
    fields = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps(dict(reversed(fields.items()))))
    assert version_id(folder) == before
    (folder / CONFIG_NAME).write_text(json.dumps({**fields, "lora_alpha": fields["lora_alpha"] + 1}))
    assert version_id(folder) != before


def test_adapters_of_different_base_models_differ(tiny_shape: ModelShape, tmp_path: Path) -> None:
    other = ModelShape(tiny_shape.modules, "0" * 64)
    write_adapter(random_adapter(tiny_shape), tmp_path / "one")
    write_adapter(random_adapter(other), tmp_path / "two")
    assert version_id(tmp_path / "one") != version_id(tmp_path / "two")


def test_id_can_be_put_together_from_parts(folder: Path) -> None:
    assert combine(tensors_digest(folder), read_config(folder)) == version_id(folder)


def test_missing_or_linked_file_is_refused(folder: Path) -> None:
    (folder / TENSORS_NAME).rename(folder / "elsewhere")
    with pytest.raises(InvalidAdapter, match="missing"):
        version_id(folder)
    (folder / TENSORS_NAME).symlink_to(folder / "elsewhere")
    with pytest.raises(InvalidAdapter, match="no regular file"):
        version_id(folder)
