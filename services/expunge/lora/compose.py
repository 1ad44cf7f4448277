"""Adapters from adapters: exact sums, and lower ranks."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from expunge.errors import InvalidAdapter
from expunge.lora.adapter import Adapter, Pair
from expunge.lora.config import AdapterConfig


def concat(first: Adapter, second: Adapter) -> Adapter:
    """The adapter that adds what both add: A = [A₁; A₂], B = [s₁B₁ s₂B₂], so scale · BA = s₁B₁A₁ + s₂B₂A₂.

    Exact; ranks add up where both adapt a module. Each scale is folded into its B, and the result's scale is
    1.

    Raises:
        InvalidAdapter: they belong to different base models.
    """
    bases = {adapter.config.base_digest for adapter in (first, second)} - {""}
    if len(bases) > 1:
        raise InvalidAdapter.of("base_digest", "adapters of different base models can't be added")
    pairs = {}
    for path in sorted(first.pairs.keys() | second.pairs.keys()):
        parts = [_folded(adapter, path) for adapter in (first, second) if path in adapter.pairs]
        pairs[path] = Pair(
            torch.cat([part.a for part in parts], dim=0),
            torch.cat([part.b for part in parts], dim=1),
        )
    if (
        first.config.target_modules
        and second.config.target_modules
        and first.config.layers == second.config.layers
    ):
        targets = tuple(sorted({*first.config.target_modules, *second.config.target_modules}))
        layers = first.config.layers
    else:
        targets, layers = tuple(pairs), None
    return Adapter(_unit_config(pairs, targets, layers, next(iter(bases), "")), pairs)


def recompress(adapter: Adapter, max_rank: int) -> Adapter:
    """The closest adapter (in Frobenius norm, module by module) with ranks of at most `max_rank`.

    Truncated SVD of sBA without the dense product: with the thin factorisations sB = Q₁R₁ and Aᵀ = Q₂R₂ it is
    that of the small matrix R₁R₂ᵀ = USVᵀ, and B' = Q₁U√S, A' = √SVᵀQ₂ᵀ. Modules already within the limit stay
    as they are but for the folded scale. An approximation: audit what comes out.

    Raises:
        ValueError: `max_rank` is not positive.
    """
    if max_rank < 1:
        raise ValueError(f"max_rank is {max_rank}; it must be at least 1")
    pairs = {}
    for path in sorted(adapter.pairs):
        pair = _folded(adapter, path)
        pairs[path] = _truncate(pair, max_rank) if pair.rank > max_rank else pair
    config = adapter.config
    return Adapter(_unit_config(pairs, config.target_modules, config.layers, config.base_digest), pairs)


def level(adapter: Adapter) -> Adapter:
    """The same adapter with one rank and a scale of 1 in every module, for engines that know no exceptions.

    Exact: factors of a lower rank are filled up with zeros.
    """
    pairs = {path: _filled(_folded(adapter, path), adapter.rank) for path in sorted(adapter.pairs)}
    config = adapter.config
    return Adapter(_unit_config(pairs, config.target_modules, config.layers, config.base_digest), pairs)


def _filled(pair: Pair, rank: int) -> Pair:
    missing = rank - pair.rank
    pad = torch.nn.functional.pad
    return Pair(pad(pair.a, (0, 0, 0, missing)), pad(pair.b, (0, missing)))


def _folded(adapter: Adapter, path: str) -> Pair:
    """The pair with its scale inside B, in float32."""
    pair = adapter.pairs[path]
    return Pair(pair.a.float(), pair.b.float() * adapter.config.scale_of(path))


def _truncate(pair: Pair, rank: int) -> Pair:
    left, left_rest = torch.linalg.qr(pair.b.double())  # [out, k], [k, r]
    right, right_rest = torch.linalg.qr(pair.a.double().T)  # [in, m], [m, r]
    u, s, vt = torch.linalg.svd(left_rest @ right_rest.T, full_matrices=False)
    root = s[:rank].sqrt()
    b = left @ (u[:, :rank] * root)  # [out, rank]
    a = (root[:, None] * vt[:rank]) @ right.T  # [rank, in]
    return Pair(a.float().contiguous(), b.float().contiguous())


def _unit_config(
    pairs: Mapping[str, Pair], targets: tuple[str, ...], layers: tuple[int, ...] | None, base_digest: str
) -> AdapterConfig:
    """A config under which every module's scale is 1: alpha equals rank, exceptions by full module path."""
    ranks = [pair.rank for pair in pairs.values()]
    rank = max(set(ranks), key=lambda value: (ranks.count(value), value))
    others = {path: pair.rank for path, pair in pairs.items() if pair.rank != rank}
    return AdapterConfig(
        rank=rank,
        alpha=float(rank),
        target_modules=targets,
        base_digest=base_digest,
        rank_pattern=others,
        alpha_pattern={path: float(value) for path, value in others.items()},
        layers=layers,
    )
