"""Special tokens as files name them, against what the tokenizer itself says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from expunge.errors import ModelError
from expunge.models.special_tokens import special_tokens


def test_every_special_token_of_the_tokenizer_is_found(tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    assert set(special_tokens(tiny_model_folder)) >= set(tokenizer.all_special_tokens) > set()


def test_all_ways_to_name_one_are_read(tmp_path: Path) -> None:
    added = [
        {"content": "<|a|>", "special": True},
        {"content": "<|fim|>", "special": False},
        {"content": "\n\n", "special": False},
    ]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "pad_token": None,
        "add_bos_token": True,
        "additional_special_tokens": ["[X]"],
        "added_tokens_decoder": {"9": {"content": "[INST]", "special": True}},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"extra_special_tokens": {"y": "[Y]"}}))
    assert set(special_tokens(tmp_path)) == {"<|a|>", "<|fim|>", "<s>", "</s>", "[X]", "[INST]", "[Y]"}


def test_a_folder_without_these_files_has_none(tmp_path: Path) -> None:
    assert special_tokens(tmp_path) == ()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json"):
        special_tokens(tmp_path)
