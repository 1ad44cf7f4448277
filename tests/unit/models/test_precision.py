"""bfloat16 only where the hardware multiplies it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expunge.errors import ConfigError
from expunge.models.precision import resolve_dtype


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", torch.bfloat16),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile", torch.bfloat16),
        ("Features\t: fp asimd bf16 i8mm", torch.bfloat16),
        ("flags\t\t: fpu avx2 avx512f", torch.float32),
        ("model name\t: something with bf16 in its name", torch.float32),
    ],
)
def test_auto_follows_the_processor(tmp_path: Path, line: str, expected: torch.dtype) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert resolve_dtype("auto", cpuinfo=tmp_path / "cpuinfo") == expected


def test_auto_is_float32_where_nothing_can_be_told(tmp_path: Path) -> None:
    assert resolve_dtype("auto", cpuinfo=tmp_path / "absent") == torch.float32


def test_named_formats_are_taken_as_they_are() -> None:
    assert resolve_dtype("bfloat16") == torch.bfloat16
    assert resolve_dtype("float32") == torch.float32


def test_unknown_format_is_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match="use auto, bfloat16 or float32"):
        resolve_dtype("float8")
