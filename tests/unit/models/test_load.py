"""Only whole, well-formed causal language models are loaded; everything else is refused with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from expunge.errors import ModelError
from expunge.models.load import load_model, load_outline
from expunge.models.manifest import manifest_digest
from expunge.models.precision import Precision, has_bfloat16
from expunge.models.source import resolve_folder


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def edit_config(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


def split_into_shards(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / shard, metadata={"format": "pt"})
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def refusal(folder: Path, tmp_path: Path) -> str:
    with pytest.raises(ModelError) as refused:
        load_model(str(folder), cache=tmp_path / "cache")
    assert str(folder) in refused.value.message
    return refused.value.message


def test_loaded_model_is_frozen_and_named_by_its_digest(
    tiny_model_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = load_model(str(tiny_model_folder), cache=tmp_path, dtype="bfloat16")
    assert loaded.digest == manifest_digest(tiny_model_folder)
    assert loaded.version == f"base:{loaded.digest}"
    assert loaded.folder == tiny_model_folder
    assert loaded.precision.weights == torch.bfloat16
    for parameter in loaded.model.parameters():
        assert parameter.dtype == loaded.precision.arithmetic
        assert torch.equal(parameter, parameter.to(torch.bfloat16).to(parameter.dtype))
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.tokenizer.pad_token_id is not None
    assert capfd.readouterr() == ("", "")


def test_sharded_model_loads(folder: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    split_into_shards(folder)
    loaded = load_model(str(folder), cache=tmp_path, dtype="float32")
    original = load_model(str(tiny_model_folder), cache=tmp_path, dtype="float32")
    tokens = torch.arange(10)[None]
    assert torch.equal(loaded.model(tokens).logits, original.model(tokens).logits)
    assert loaded.digest != original.digest


@pytest.mark.parametrize("source", ["/nowhere/at all", "./absent/folder", ""])
def test_missing_model_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        resolve_folder(source, tmp_path)


def test_unreachable_hub_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="fetching it from the hub failed"):
        resolve_folder("nobody/no-such-model", tmp_path)


def test_absent_shard_is_refused(folder: Path, tmp_path: Path) -> None:
    split_into_shards(folder)
    (folder / "model-2.safetensors").unlink()
    message = refusal(folder, tmp_path)
    assert "model-2.safetensors is missing" in message


def test_shard_without_a_promised_tensor_is_refused(folder: Path, tmp_path: Path) -> None:
    split_into_shards(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.layers.9.absent"] = "model-1.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "partial" in refusal(folder, tmp_path)


def test_truncated_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])
    assert "truncated" in refusal(folder, tmp_path)


def test_garbage_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0 nothing like it ")
    assert "corrupt" in refusal(folder, tmp_path)


def test_missing_weight_is_refused_rather_than_filled_with_random_numbers(
    folder: Path, tmp_path: Path
) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight" in refusal(folder, tmp_path)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "only safetensors" in refusal(folder, tmp_path)


def test_model_that_is_no_causal_lm_is_refused(folder: Path, tmp_path: Path) -> None:
    edit_config(folder, architectures=["BertForMaskedLM"], model_type="bert")
    assert "BertForMaskedLM" in refusal(folder, tmp_path)


def test_model_that_needs_its_own_code_is_refused(folder: Path, tmp_path: Path) -> None:
    edit_config(
        folder, architectures=["StrangeForCausalLM"], auto_map={"AutoModelForCausalLM": "evil.Strange"}
    )
    assert "their own code" in refusal(folder, tmp_path)


def test_quantised_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "quantization_config" in refusal(folder, tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "null"])
def test_damaged_config_is_refused(folder: Path, tmp_path: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert "config.json" in refusal(folder, tmp_path)


def test_missing_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer" in refusal(folder, tmp_path)


def test_damaged_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    assert "tokenizer" in refusal(folder, tmp_path)


def test_tokenizer_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:300].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit_config(folder, vocab_size=300)
    assert "do not belong together" in refusal(folder, tmp_path)


@pytest.mark.skipif(has_bfloat16(), reason="this processor computes in bfloat16, which auto is then")
def test_by_default_weights_stored_in_bfloat16_are_told_to_fit_it(folder: Path, tmp_path: Path) -> None:
    assert load_model(str(folder), cache=tmp_path).precision.weights == torch.float32
    stored = load_file(folder / "model.safetensors")
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in stored.items()}
    save_file(halved, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_model(str(folder), cache=tmp_path)
    assert loaded.precision == Precision(torch.bfloat16, torch.float32)
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, halved[name].float())


def test_an_outline_is_the_same_model_without_its_weights(folder: Path, tmp_path: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    whole, outline = (
        load(str(folder), cache=tmp_path, dtype="float32") for load in (load_model, load_outline)
    )
    assert (outline.digest, outline.version) == (whole.digest, whole.version)
    assert outline.precision == whole.precision
    assert outline.model.generation_config.eos_token_id == [2, 0]
    assert {parameter.device.type for parameter in outline.model.parameters()} == {"meta"}
    shapes = (
        {name: tensor.shape for name, tensor in one.model.state_dict().items()} for one in (whole, outline)
    )
    assert next(shapes) == next(shapes)
