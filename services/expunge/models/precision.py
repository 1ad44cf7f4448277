"""Which number format a model computes in."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from expunge.errors import ConfigError, Violation

_NAMES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last is Arm's name


def resolve_dtype(name: str, device: str = "cpu", *, cpuinfo: Path = Path("/proc/cpuinfo")) -> torch.dtype:
    """The torch dtype for the setting `dtype`.

    "auto" is bfloat16 where the device multiplies it in hardware and float32 elsewhere: without hardware,
    bfloat16 is emulated and about three times slower than float32.

    Args:
        name: auto, bfloat16 or float32.
        device: torch device the model will live on.
        cpuinfo: where Linux lists the processor's features.

    Raises:
        ConfigError: `name` is none of the three.
    """
    if name == "auto":
        return torch.bfloat16 if has_bfloat16(device, cpuinfo=cpuinfo) else torch.float32
    if name not in _NAMES:
        message = f"{name!r} is no number format; use auto, bfloat16 or float32"
        raise ConfigError(f"dtype: {message}", violations=[Violation("dtype", message)])
    return _NAMES[name]


def has_bfloat16(device: str = "cpu", *, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the device computes bfloat16 in hardware; False where that cannot be told."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.system() != "Linux" or not cpuinfo.is_file():
        return False
    for line in cpuinfo.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return not _CPU_FLAGS.isdisjoint(value.split())
    return False
