"""Is a folder a whole, well-formed causal language model? Asked before anything is loaded from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from expunge.errors import ModelError
from expunge.models.manifest import INDEX_NAME, weight_files
from expunge.models.tensorfile import MalformedTensorFile, TensorHeader, read_header

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


def check_folder(folder: Path) -> None:
    """Check config, architecture, tokenizer and every weight file's header and length.

    Raises:
        ModelError: the folder is missing; the config is missing, damaged or of no causal language model;
            there is no tokenizer; a weight file is missing, truncated or malformed, or lacks a tensor the
            index promises.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}; check the path")
    _check_architecture(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"model folder {folder} has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}); "
            "save the model's tokenizer into it"
        )
    headers = {name: _header(folder / name) for name in weight_files(folder) if name != INDEX_NAME}
    if (folder / INDEX_NAME).is_file():
        _check_index(folder, headers)


def _check_architecture(folder: Path) -> None:
    path = folder / "config.json"
    try:
        config: Any = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ModelError(f"model folder {folder} has no config.json; it is no transformers model") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON; download the model again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object; download the model again")
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or known.isdisjoint(map(str, architectures)):
        kind = ", ".join(map(str, architectures)) if isinstance(architectures, list) else str(architectures)
        raise ModelError(
            f"{path} names the architecture {kind or 'none'}, which is no causal language model "
            "that transformers knows; models that need their own code are not run"
        )
    if config.get("quantization_config"):
        raise ModelError(
            f"{path} has a quantization_config; quantised weights are not served; "
            "use the unquantised model or a GGUF file"
        )


def _header(path: Path) -> TensorHeader:
    try:
        return read_header(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing; the model is partial, download it again") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except MalformedTensorFile as error:
        raise ModelError(f"{path} is corrupt: {error}; download it again") from error


def _check_index(folder: Path, headers: dict[str, TensorHeader]) -> None:
    promised: dict[str, str] = json.loads((folder / INDEX_NAME).read_text())["weight_map"]
    absent = [name for name, shard in promised.items() if name not in headers[shard].tensors]
    if absent:
        raise ModelError(
            f"model folder {folder} is partial: {len(absent)} tensors of {INDEX_NAME} are in no shard, "
            f"the first is {absent[0]!r}; download it again"
        )
