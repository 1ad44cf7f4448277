"""An adapter's two files on disk, and the version id over them. Free of torch.

    <folder>/adapter_model.safetensors   the factors A and B, under PEFT's names
    <folder>/adapter_config.json         rank, alpha, target modules

Other files in the folder (a README, a tokenizer) are not read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from expunge.errors import DataLoss, InvalidAdapter
from expunge.lora.config import MAX_CONFIG_BYTES, AdapterConfig, parse_config
from expunge.models.tensorfile import MalformedTensorFile, TensorHeader, read_header

TENSORS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
_PICKLE_NAMES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "pytorch_model.bin")
_CHUNK = 2**20


def version_id(folder: Path) -> str:
    """The id of an adapter version: sha256 (hex) over its safetensors' sha256 and its canonical config.

    One changed bit of a factor, or a changed rank, alpha or scaling, is another version; a config that
    differs only in what has no influence on the result is not.

    Raises:
        InvalidAdapter: a file is missing, is no regular file, or the config is malformed or not supported.
    """
    return combine(tensors_digest(folder), read_config(folder))


def combine(tensors_sha256: str, config: AdapterConfig) -> str:
    """`version_id` from parts, for who has hashed the bytes already (an upload)."""
    return hashlib.sha256(bytes.fromhex(tensors_sha256) + config.canonical()).hexdigest()


def tensors_digest(folder: Path) -> str:
    """sha256 (hex) of the safetensors file.

    Raises:
        InvalidAdapter: the file is missing or no regular file.
    """
    path = _regular(folder, TENSORS_NAME)
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def read_config(folder: Path) -> AdapterConfig:
    """Parse the folder's adapter_config.json.

    Raises:
        InvalidAdapter: missing, malformed or not supported.
    """
    path = _regular(folder, CONFIG_NAME)
    with path.open("rb") as file:
        return parse_config(file.read(MAX_CONFIG_BYTES + 1))


def read_tensor_header(folder: Path) -> TensorHeader:
    """The checked header of the safetensors file.

    Raises:
        InvalidAdapter: missing, a pickle, truncated or otherwise malformed.
    """
    path = _regular(folder, TENSORS_NAME)
    try:
        return read_header(path)
    except MalformedTensorFile as error:
        raise InvalidAdapter.of(
            TENSORS_NAME, f"{error}; send the safetensors file as it was saved"
        ) from error


def check_declared(folder: Path, *, size: int | None, sha256: str | None) -> None:
    """Compare the safetensors file with what its sender declared; None skips a check.

    Raises:
        InvalidAdapter: another size.
        DataLoss: the size agrees, the sha256 does not.
    """
    path = _regular(folder, TENSORS_NAME)
    actual = path.stat().st_size
    if size is not None and actual != size:
        fault = "larger than declared" if actual > size else "truncated"
        raise InvalidAdapter.of(
            TENSORS_NAME, f"has {actual} bytes, {size} were declared: {fault}; send it again"
        )
    if sha256 is not None and tensors_digest(folder) != sha256.lower():
        raise DataLoss(
            f"{TENSORS_NAME} does not have the declared sha256; it was damaged on the way, send it again"
        )


def _regular(folder: Path, name: str) -> Path:
    """The path of a file that must be there as itself: a link could point at any file of the host."""
    path = folder / name
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        if name == TENSORS_NAME and any((folder / pickle).exists() for pickle in _PICKLE_NAMES):
            raise InvalidAdapter.of(
                name,
                "is missing and there is a Python pickle instead, which is never opened; save as safetensors",
            ) from error
        raise InvalidAdapter.of(name, f"is missing in {folder.name}; an adapter needs it") from error
    if not stat.S_ISREG(mode):
        raise InvalidAdapter.of(name, "is no regular file; links and devices are refused")
    return path
