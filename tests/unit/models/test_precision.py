"""Arithmetic in bfloat16 only where the hardware multiplies it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expunge.errors import ConfigError
from expunge.models.precision import Precision, resolve_precision

BFLOAT16 = Precision(torch.bfloat16, torch.bfloat16)
FLOAT32 = Precision(torch.float32, torch.float32)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", BFLOAT16),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile", BFLOAT16),
        ("Features\t: fp asimd bf16 i8mm", BFLOAT16),
        ("flags\t\t: fpu avx2 avx512f", FLOAT32),
        ("model name\t: something with bf16 in its name", FLOAT32),
    ],
)
def test_auto_follows_the_processor(tmp_path: Path, line: str, expected: Precision) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert resolve_precision("auto", cpuinfo=tmp_path / "cpuinfo") == expected


def test_auto_is_float32_where_nothing_can_be_told(tmp_path: Path) -> None:
    assert resolve_precision("auto", cpuinfo=tmp_path / "absent") == FLOAT32


@pytest.mark.parametrize("flags", ["avx512f", "avx512f avx512_bf16"])
def test_float32_is_float32_everywhere(tmp_path: Path, flags: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    assert resolve_precision("float32", cpuinfo=tmp_path / "cpuinfo") == FLOAT32


def test_bfloat16_is_for_weights_only_where_the_processor_does_not_multiply_it(tmp_path: Path) -> None:
    (tmp_path / "with").write_text("flags : avx512f avx512_bf16\n")
    (tmp_path / "without").write_text("flags : avx512f\n")
    assert resolve_precision("bfloat16", cpuinfo=tmp_path / "with") == BFLOAT16
    found = resolve_precision("bfloat16", cpuinfo=tmp_path / "without")
    assert found == Precision(torch.bfloat16, torch.float32)
    assert (str(found), str(BFLOAT16)) == ("bfloat16 with arithmetic in float32", "bfloat16")


@pytest.mark.parametrize(
    ("stored", "weights"),
    [
        (["BF16"], torch.bfloat16),
        (["BF16", "F32"], torch.float32),
        (["F16"], torch.float32),
        ([], torch.float32),
    ],
)
def test_auto_keeps_weights_in_bfloat16_only_where_they_lose_nothing(
    tmp_path: Path, stored: list[str], weights: torch.dtype
) -> None:
    (tmp_path / "cpuinfo").write_text("flags : avx512f\n")
    found = resolve_precision("auto", stored=stored, cpuinfo=tmp_path / "cpuinfo")
    assert found == Precision(weights, torch.float32)


def test_unknown_format_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match="use auto, bfloat16 or float32"):
        resolve_precision("float8")
