"""adapter_config.json: what of PEFT's format is understood, and the canonical form that versions are named
by.

A LoRA adapter adds scale · B(Ax) to a linear layer, with scale = alpha / rank, or alpha / √rank for
rank-stabilised adapters (rsLoRA, arXiv 2312.03732). Everything in the file that would change this meaning and
is not supported is refused by name; what has no influence on it is ignored. Free of torch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from expunge.errors import InvalidAdapter, Violation

Value = TypeVar("Value")

MAX_CONFIG_BYTES = 2**20
_MODULE_NAME = re.compile(r"\w+(\.\w+)*")
_SUPPORTED = {
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "layers_to_transform",
    "bias",
    "init_lora_weights",
}
# without influence on what a trained adapter computes
_INERT = {
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "qalora_group_size",
    "eva_config",
    "runtime_config",
    "unsloth_fixed",
}
# other ways of starting change the base weights, so the factors alone don't hold what was trained
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class AdapterConfig:
    """How the factors of an adapter are to be applied.

    Attributes:
        rank: rank of every module that `rank_pattern` does not name.
        alpha: numerator of the scale of every module that `alpha_pattern` does not name.
        target_modules: names of the adapted modules, each a whole module path or its last part(s); empty
            where the file gives a pattern and the tensors decide.
        base_digest: manifest digest of the base model it was trained on, "" where unknown.
        rslora: scale is alpha / √rank instead of alpha / rank.
        rank_pattern, alpha_pattern: exceptions by module path or its last part(s); the first match counts.
        layers: indices of the adapted layers, None for all.
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    base_digest: str = ""
    rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    layers: tuple[int, ...] | None = None

    def rank_of(self, path: str) -> int:
        """Rank of the module at `path`."""
        return _first_match(self.rank_pattern, path, self.rank)

    def scale_of(self, path: str) -> float:
        """The factor before B(Ax) for the module at `path`."""
        rank, alpha = self.rank_of(path), _first_match(self.alpha_pattern, path, self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)

    def canonical(self) -> bytes:
        """The fields that change what the adapter computes, as one fixed JSON text.

        The target modules are left out: the tensors' names say which they are.
        """
        fields = {
            "alpha": float(self.alpha),
            "alpha_pattern": [[name, float(alpha)] for name, alpha in self.alpha_pattern.items()],
            "rank": self.rank,
            "rank_pattern": [list(item) for item in self.rank_pattern.items()],
            "rslora": self.rslora,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def to_peft(self) -> bytes:
        """adapter_config.json as PEFT reads it."""
        fields = {
            "alpha_pattern": dict(self.alpha_pattern),
            "base_model_name_or_path": None,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "layers_to_transform": list(self.layers) if self.layers is not None else None,
            "lora_alpha": int(self.alpha) if float(self.alpha).is_integer() else self.alpha,
            "lora_dropout": 0.0,
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": dict(self.rank_pattern),
            "target_modules": list(self.target_modules),
            "task_type": "CAUSAL_LM",
            "use_dora": False,
            "use_rslora": self.rslora,
        }
        return (json.dumps(fields, indent=2, sort_keys=False) + "\n").encode()


def name_matches(name: str, path: str) -> bool:
    """Whether `name` means the module at `path`: it is the path, or its last part(s)."""
    return path == name or path.endswith("." + name)


def parse_config(raw: bytes) -> AdapterConfig:
    """Read adapter_config.json.

    Raises:
        InvalidAdapter: not a JSON object, a missing or malformed field, or a feature that is not supported;
            every problem is in `violations`.
    """
    fields = _json_object(raw)
    problems = [*_unsupported(fields), *_malformed(fields)]
    if problems:
        raise InvalidAdapter(
            "adapter_config.json: "
            + "; ".join(f"{problem.field}: {problem.message}" for problem in problems),
            violations=problems,
        )
    targets, layers = fields["target_modules"], fields.get("layers_to_transform")
    return AdapterConfig(
        rank=fields["r"],
        alpha=fields["lora_alpha"],
        target_modules=() if isinstance(targets, str) else tuple(sorted(set(targets))),
        rslora=bool(fields.get("use_rslora")),
        rank_pattern=dict(fields.get("rank_pattern") or {}),
        alpha_pattern=dict(fields.get("alpha_pattern") or {}),
        layers=(layers,) if isinstance(layers, int) else tuple(sorted(set(layers))) if layers else None,
    )


def _json_object(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_CONFIG_BYTES:
        raise InvalidAdapter.of("adapter_config.json", f"is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        fields = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter.of("adapter_config.json", "is not valid JSON; send PEFT's file") from error
    if not isinstance(fields, dict):
        raise InvalidAdapter.of("adapter_config.json", "is not a JSON object; send PEFT's file")
    return fields


def _unsupported(fields: dict[str, Any]) -> list[Violation]:
    """Features whose silent loss would change the adapter's meaning."""
    found = []
    if fields.get("peft_type") != "LORA":
        found.append(Violation("peft_type", f"is {_short(fields.get('peft_type'))}; only LORA is supported"))
    if fields.get("bias", "none") != "none":
        found.append(Violation("bias", f"is {_short(fields['bias'])}; only 'none' is supported"))
    start = fields.get("init_lora_weights")
    if not any(start is plain or (isinstance(start, str) and start == plain) for plain in _PLAIN_STARTS):
        found.append(
            Violation("init_lora_weights", f"{_short(start)} changes the base weights; convert to plain LoRA")
        )
    for name in sorted(fields.keys() - _SUPPORTED - _INERT):
        if fields[name]:
            found.append(
                Violation(_short(name), f"the feature {_short(name)} is not supported; train without it")
            )
    return found


def _malformed(fields: dict[str, Any]) -> list[Violation]:
    found = []
    if not _is_rank(fields.get("r")):
        found.append(Violation("r", "must be a positive whole number"))
    if not _is_alpha(fields.get("lora_alpha")):
        found.append(Violation("lora_alpha", "must be a positive finite number"))
    if not isinstance(fields.get("use_rslora", False), bool):
        found.append(Violation("use_rslora", "must be true or false"))
    for name, is_valid in (("rank_pattern", _is_rank), ("alpha_pattern", _is_alpha)):
        pattern = fields.get(name) or {}
        if not isinstance(pattern, dict) or not all(map(is_valid, pattern.values())):
            found.append(Violation(name, "must map module names to positive numbers"))
        elif not all(map(_MODULE_NAME.fullmatch, pattern)):
            found.append(Violation(name, "regular expressions are not supported; use plain module names"))
    targets = fields.get("target_modules")
    if not _are_names(targets) and not (isinstance(targets, str) and targets):
        found.append(Violation("target_modules", "must be a list of module names"))
    layers = fields.get("layers_to_transform")
    indices = [layers] if isinstance(layers, int) else layers or []
    if not isinstance(indices, list) or not all(
        type(index) is int and 0 <= index < 10**6 for index in indices
    ):
        found.append(Violation("layers_to_transform", "must be a list of layer indices"))
    return found


def _is_rank(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**31


def _is_alpha(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1e9  # false for NaN, too


def _are_names(values: Any) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(value, str) and _MODULE_NAME.fullmatch(value) for value in values)
    )


def _first_match(pattern: Mapping[str, Value], path: str, default: Value) -> Value:
    return next((value for name, value in pattern.items() if name_matches(name, path)), default)


def _short(value: Any) -> str:
    return repr(value)[:60]
