"""Turns a GGUF file into a folder of safetensors, once."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from expunge.errors import ModelError
from expunge.models.manifest import file_digest
from expunge.models.silence import quiet_transformers

# One stored format whatever the machine computes in, so that the manifest digest names the same base
# everywhere and a float32 worker trains against exactly the weights that a bfloat16 engine serves. bfloat16,
# because models are published in it and its rounding is far below that of a quantised GGUF.
STORED_DTYPE = torch.bfloat16
_LOCK_TIMEOUT_S = 900.0
_GGUF_MAGIC = b"GGUF"


def convert_gguf(gguf: Path, cache: Path) -> Path:
    """The folder under `cache` that holds the model of a GGUF file as safetensors; converted if it is not
    there.

    The folder is named by the GGUF's digest and appears in one rename. Two processes that ask at once convert
    once; what a killed conversion left behind is removed by the next.

    Raises:
        ModelError: the file is missing, no GGUF, of an architecture that transformers cannot read, or another
            process holds the conversion lock for too long.
    """
    _check_magic(gguf)
    models = cache / "models"
    models.mkdir(parents=True, exist_ok=True)
    target = models / f"{gguf.stem}-{file_digest(gguf)[:16]}"
    if target.is_dir():
        return target
    try:
        with FileLock(models / f"{target.name}.lock", timeout=_LOCK_TIMEOUT_S):
            if not target.is_dir():
                _convert_into(gguf, target)
    except Timeout as error:
        raise ModelError(
            f"another process has been converting {gguf} for {_LOCK_TIMEOUT_S:.0f} s; end it and start again"
        ) from error
    return target


def _check_magic(gguf: Path) -> None:
    try:
        with gguf.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ModelError(f"cannot read the GGUF file {gguf}: {error.strerror}; check the path") from error
    if start != _GGUF_MAGIC:
        raise ModelError(f"{gguf} is no GGUF file (it does not start with 'GGUF'); download it again")


def _convert_into(gguf: Path, target: Path) -> None:
    for leftover in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _write_safetensors(gguf, temporary)
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.chmod(0o644)  # a cache may be shared; temporary files are private by default
        temporary.chmod(0o755)
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_safetensors(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    location = {
        "pretrained_model_name_or_path": str(gguf.parent),
        "gguf_file": gguf.name,
        "local_files_only": True,
    }
    with quiet_transformers(stderr=True):
        try:
            tokenizer = AutoTokenizer.from_pretrained(**location)
            quantised = AutoModelForCausalLM.from_pretrained(**location, dtype=torch.float32)
        except Exception as error:  # the GGUF readers raise whatever their parsing trips over
            raise ModelError(
                f"cannot read the GGUF file {gguf}: {type(error).__name__}: {error}; it is damaged, or its "
                "architecture is not known to transformers"
            ) from error
        config = copy.deepcopy(quantised.config)
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the weights are no longer quantised, and saving would be refused
        config.dtype = STORED_DTYPE
        # a model read from GGUF refuses to be saved: its weights move into a fresh one
        fresh = AutoModelForCausalLM.from_config(config, dtype=STORED_DTYPE)
        fresh.load_state_dict(quantised.state_dict())
        fresh.generation_config = copy.deepcopy(quantised.generation_config)
        fresh.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        _drop_library_version(folder / name)


def _drop_library_version(path: Path) -> None:
    """The digest must not change with the version of the library that converted."""
    if path.is_file():
        fields = json.loads(path.read_text())
        fields.pop("transformers_version", None)
        path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
