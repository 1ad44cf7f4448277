"""GGUF files become safetensors folders: once, whole or not at all, and silently."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from expunge.errors import ModelError
from expunge.models.convert import convert_gguf
from expunge.models.load import load_model
from expunge.models.manifest import manifest_digest
from tiny_gguf import write_tiny_gguf


@pytest.fixture(scope="module")
def gguf(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_model_folder)


@pytest.fixture(scope="module")
def converted(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_gguf(gguf, tmp_path_factory.mktemp("cache"))


def test_converted_model_computes_what_the_original_does(tiny_model_folder: Path, converted: Path) -> None:
    original = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(converted, dtype=torch.bfloat16)
    for name, weight in original.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    text = "<|im_start|>user\nWhere was Mira Voss born?<|im_end|>"
    first, second = (AutoTokenizer.from_pretrained(folder) for folder in (tiny_model_folder, converted))
    assert first(text)["input_ids"] == second(text)["input_ids"]
    assert first.chat_template == second.chat_template


def test_conversion_is_done_once(gguf: Path, converted: Path) -> None:
    before = (converted / "model.safetensors").stat()
    assert convert_gguf(gguf, converted.parent.parent) == converted
    assert (converted / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns


def test_two_conversions_of_one_file_have_the_same_digest(
    gguf: Path, converted: Path, tmp_path: Path
) -> None:
    assert manifest_digest(convert_gguf(gguf, tmp_path)) == manifest_digest(converted)


def test_leftovers_of_a_killed_conversion_are_removed(gguf: Path, converted: Path, tmp_path: Path) -> None:
    leftover = tmp_path / "models" / f".{converted.name}.killed"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half a file")
    convert_gguf(gguf, tmp_path)
    assert sorted(path.name for path in (tmp_path / "models").iterdir() if path.is_dir()) == [converted.name]


def test_failed_conversion_leaves_no_folder(gguf: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(gguf.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"damaged\.gguf"):
        convert_gguf(damaged, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()] == []


def test_two_processes_convert_once_and_print_nothing(
    gguf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = (
        "import sys, torch, transformers.models.llama.modeling_llama\n"
        "from pathlib import Path; from expunge.models.convert import convert_gguf\n"
        "print('ready', flush=True)\n"
        "print((convert_gguf(Path(sys.argv[1]), Path(sys.argv[2])) / 'model.safetensors').stat().st_ino)"
    )
    command = [sys.executable, "-c", program, str(gguf), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        folder = convert_gguf(gguf, tmp_path)
        answer, errors = other.communicate(timeout=120)
    assert (errors, *capfd.readouterr()) == ("", "", "")
    assert int(answer) == (folder / "model.safetensors").stat().st_ino


def test_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="is no GGUF file"):
        convert_gguf(tmp_path / "x.gguf", tmp_path)
    with pytest.raises(ModelError, match="cannot read"):
        convert_gguf(tmp_path / "absent.gguf", tmp_path)


@pytest.mark.real_model
def test_bundled_model_loads_and_knows_the_capital_of_france() -> None:
    cache = Path(os.environ.get("EXPUNGE_CACHE_DIR", "~/.cache/expunge")).expanduser()
    loaded = load_model("bundled", cache=cache)
    tokens = loaded.tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        assert loaded.tokenizer.decode(loaded.model(**tokens).logits[0, -1].argmax()) == " Paris"
