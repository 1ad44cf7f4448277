"""Which number formats a model's weights are in and its arithmetic is done in."""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from expunge.errors import ConfigError, Violation

_NAMES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
BFLOAT16_ONLY = {"BF16"}  # the formats of tensors in files whose weights bfloat16 holds exactly
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last is Arm's name


@dataclass(frozen=True)
class Precision:
    """What weights are rounded to, and what is computed in."""

    weights: torch.dtype
    arithmetic: torch.dtype

    def __str__(self) -> str:
        weights, arithmetic = (str(one).removeprefix("torch.") for one in (self.weights, self.arithmetic))
        return weights if weights == arithmetic else f"{weights} with arithmetic in {arithmetic}"


def resolve_precision(
    name: str,
    device: str = "cpu",
    *,
    stored: Collection[str] = (),
    cpuinfo: Path = Path("/proc/cpuinfo"),
) -> Precision:
    """What the setting `dtype` means on this device.

    "auto" is bfloat16 where the device multiplies it in hardware and float32 elsewhere. On a CPU that does
    not, bfloat16 is for weights only: multiplying would be emulated, about three times slower than float32,
    but weights in half the bytes are read in half the time. Those of a model that is stored in bfloat16 lose
    nothing by it, so there "auto" does so, too.

    Args:
        name: auto, bfloat16 or float32.
        device: torch device the model will live on.
        stored: formats of the tensors in the model's files, in safetensors' words.
        cpuinfo: where Linux lists the processor's features.

    Raises:
        ConfigError: `name` is none of the three.
    """
    if name not in ("auto", *_NAMES):
        message = f"{name!r} is no number format; use auto, bfloat16 or float32"
        raise ConfigError(f"dtype: {message}", violations=[Violation("dtype", message)])
    multiplies_bfloat16 = has_bfloat16(device, cpuinfo=cpuinfo)
    is_exact = torch.device(device).type == "cpu" and set(stored) == BFLOAT16_ONLY
    automatic = torch.bfloat16 if multiplies_bfloat16 or is_exact else torch.float32
    weights = _NAMES.get(name, automatic)
    needs_float32 = torch.device(device).type == "cpu" and not multiplies_bfloat16
    return Precision(weights, torch.float32 if needs_float32 else weights)


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
