"""Does an adapter fit the base model, wholly and safely? Asked before anything is stored as usable.

Serving engines and PEFT skip what does not match and answer from the base model; after an erasure that is a
leak. Here everything must match: every tensor has a module, every promised module has its tensors.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from expunge.errors import InvalidAdapter, Violation
from expunge.lora.adapter import Adapter
from expunge.lora.config import AdapterConfig, name_matches
from expunge.lora.files import check_declared
from expunge.lora.peft_format import raise_for, read_adapter
from expunge.lora.shape import ModelShape

_LAYER = re.compile(r".*\.[^.]*\.(\d+)\.")


def validate_adapter(
    folder: Path,
    shape: ModelShape,
    *,
    max_rank: int,
    declared_size: int | None = None,
    declared_sha256: str | None = None,
    declared_base: str | None = None,
) -> Adapter:
    """Read the adapter in `folder` and check it against the base model and what its sender declared.

    Args:
        folder: holds adapter_model.safetensors and adapter_config.json.
        shape: the base model's.
        max_rank: the highest rank accepted for any module.
        declared_size, declared_sha256: of adapter_model.safetensors.
        declared_base: manifest digest of the base model it was trained on.

    Raises:
        InvalidAdapter: every fault found, in `violations`.
        DataLoss: the bytes do not have the declared sha256.
    """
    check_declared(folder, size=declared_size, sha256=declared_sha256)
    if declared_base is not None:
        _check_base(declared_base, shape)
    adapter = read_adapter(folder)
    if adapter.config.base_digest:
        _check_base(adapter.config.base_digest, shape)
    check_fit(adapter, shape, max_rank=max_rank)
    return adapter


def check_fit(adapter: Adapter, shape: ModelShape, *, max_rank: int) -> None:
    """Check modules, widths, ranks and values of an adapter in memory.

    Raises:
        InvalidAdapter: every fault found, in `violations`.
    """
    problems = _unknown_targets(adapter.config, shape)
    for path, pair in adapter.pairs.items():
        if path not in shape.modules:
            problems.append(Violation(path, "is no linear layer of the base model that can carry an adapter"))
            continue
        widths = (pair.a.shape[1], pair.b.shape[0])
        if widths != shape.modules[path]:
            wanted = _arrow(shape.modules[path])
            problems.append(Violation(path, f"is {_arrow(widths)}, the base model has {wanted}"))
        if pair.rank > max_rank:
            problems.append(Violation(path, f"has rank {pair.rank}, the limit is {max_rank}"))
        if not (torch.isfinite(pair.a).all() and torch.isfinite(pair.b).all()):
            problems.append(Violation(path, "holds NaN or infinite values"))
    expected = _expected_modules(adapter, shape)
    for path in sorted(expected - adapter.pairs.keys()):
        problems.append(Violation(path, "is a target module without factors"))
    for path in sorted((adapter.pairs.keys() & shape.modules.keys()) - expected):
        problems.append(Violation(path, "has factors but is no target module of the config"))
    raise_for(problems)


def _check_base(digest: str, shape: ModelShape) -> None:
    if digest != shape.base_digest:
        raise InvalidAdapter.of(
            "base_digest",
            f"the adapter was trained on base model {digest[:16]}…, "
            f"this service serves {shape.base_digest[:16]}…; train it on the base model that is served",
        )


def _unknown_targets(config: AdapterConfig, shape: ModelShape) -> list[Violation]:
    return [
        Violation(f"target_modules: {target}", "no such module in the base model that can carry an adapter")
        for target in config.target_modules
        if not any(name_matches(target, path) for path in shape.modules)
    ]


def _expected_modules(adapter: Adapter, shape: ModelShape) -> set[str]:
    """The modules that must have factors: what the config names, or else the same kinds in every layer."""
    targets = adapter.config.target_modules or tuple({path.rpartition(".")[2] for path in adapter.pairs})
    layers = adapter.config.layers
    return {
        path
        for path in shape.modules
        if any(name_matches(target, path) for target in targets)
        and (layers is None or _layer_of(path) in layers)
    }


def _layer_of(path: str) -> int | None:
    match = _LAYER.match(path)
    return int(match[1]) if match else None


def _arrow(widths: tuple[int, int]) -> str:
    return f"{widths[0]} → {widths[1]}"
