"""PEFT's on-disk format, both ways.

A module at `path` has two tensors: `base_model.model.<path>.lora_A.weight` [rank, in] and
`base_model.model.<path>.lora_B.weight` [out, rank]. Our own files also name their base model in the
safetensors metadata, which PEFT does not read.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from expunge.errors import InvalidAdapter, Violation
from expunge.lora.adapter import Adapter, Pair
from expunge.lora.config import AdapterConfig
from expunge.lora.files import CONFIG_NAME, TENSORS_NAME, read_config, read_tensor_header
from expunge.models.tensorfile import TensorHeader, TensorInfo

_PREFIX = "base_model.model."
_BASE_KEY = "expunge_base"
_FACTOR = re.compile(r"base_model\.model\.(?P<path>\w+(?:\.\w+)*)\.lora_(?P<factor>[AB])\.weight")
_DTYPES = ("F32", "F16", "BF16")
_LISTED = 10


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter in PEFT's format, whatever wrote it; the factors come as float32 on the CPU.

    Checks everything that can be told without the base model: format, names, complete pairs, ranks, dtypes.

    Raises:
        InvalidAdapter: naming each fault.
    """
    config = read_config(folder)
    header = read_tensor_header(folder)
    factors = _pair_names(header)
    _check_ranks(config, header, factors)
    try:
        tensors = load_file(folder / TENSORS_NAME)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise InvalidAdapter.of(
            TENSORS_NAME, "cannot be read as safetensors; save and send it again"
        ) from error
    pairs = {
        path: Pair(tensors[a_name].to(torch.float32), tensors[b_name].to(torch.float32))
        for path, (a_name, b_name) in factors.items()
    }
    return Adapter(replace(config, base_digest=header.metadata.get(_BASE_KEY, "")), pairs)


def write_adapter(adapter: Adapter, folder: Path) -> None:
    """Write an adapter so that PEFT, and `read_adapter`, load it; equal adapters give equal bytes.

    The factors are stored in their own dtype. Files are flushed to disk before this returns.
    """
    tensors = {}
    for path, pair in sorted(adapter.pairs.items()):
        tensors[f"{_PREFIX}{path}.lora_A.weight"] = pair.a.detach().cpu().contiguous()
        tensors[f"{_PREFIX}{path}.lora_B.weight"] = pair.b.detach().cpu().contiguous()
    # one entry only: the order of several is not fixed, and would make the version id random
    base = adapter.config.base_digest
    metadata = {_BASE_KEY: base} if base else {"format": "pt"}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS_NAME, metadata=metadata)
    (folder / CONFIG_NAME).write_bytes(adapter.config.to_peft())
    for name in (TENSORS_NAME, CONFIG_NAME):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())


def _pair_names(header: TensorHeader) -> dict[str, tuple[str, str]]:
    """Module path → names of its A and B."""
    found: dict[str, dict[str, str]] = {}
    problems = []
    for name, info in sorted(header.tensors.items()):
        match = _FACTOR.fullmatch(name)
        if match is None:
            problems.append(
                Violation(name[:120], "is no LoRA factor of a linear layer; such tensors are refused")
            )
        elif info.dtype not in _DTYPES or len(info.shape) != 2:
            problems.append(Violation(name, f"is {info.dtype} {list(info.shape)}; a float matrix is needed"))
        else:
            found.setdefault(match["path"], {})[match["factor"]] = name
    for path, factors in found.items():
        problems += [Violation(path, f"lora_{factor} is missing") for factor in "AB" if factor not in factors]
    if not header.tensors:
        problems.append(
            Violation(TENSORS_NAME, "holds no tensors; an adapter that changes nothing is refused")
        )
    raise_for(problems)
    return {path: (factors["A"], factors["B"]) for path, factors in found.items()}


def _check_ranks(config: AdapterConfig, header: TensorHeader, factors: dict[str, tuple[str, str]]) -> None:
    problems = []
    for path, names in factors.items():
        a, b = (header.tensors[name] for name in names)
        rank = config.rank_of(path)
        if (a.shape[0], b.shape[1]) != (rank, rank):
            problems.append(Violation(path, f"has ranks {_ranks(a, b)}, the config says {rank}"))
    raise_for(problems)


def _ranks(a: TensorInfo, b: TensorInfo) -> str:
    return f"{a.shape[0]} (A) and {b.shape[1]} (B)"


def raise_for(problems: list[Violation]) -> None:
    """Raise InvalidAdapter with every problem, the first few in the message.

    Raises:
        InvalidAdapter: there is at least one problem.
    """
    if problems:
        listed = "; ".join(f"{problem.field}: {problem.message}" for problem in problems[:_LISTED])
        more = f"; and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise InvalidAdapter(f"{TENSORS_NAME}: {listed}{more}", violations=problems[:_LISTED])
