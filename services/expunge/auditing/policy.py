"""The audit policy: which thresholds a version must meet, versioned and named by a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from expunge.auditing.paraphrases import AUDIT_TEMPLATES
from expunge.errors import ConfigError, Violation


@dataclass(frozen=True)
class Policy:
    """Thresholds and probe counts of an audit.

    Attributes:
        name, version: what operators call it; the version rises with every change of meaning.
        controls_per_fact: invented facts beside each erased one, for prefixes and extraction.
        fully_probed_controls: how many of those are asked every other probe, too.
        seed: of the controls.
        full_leaks_allowed: replies to direct, paraphrase and cloze probes that may hold a full secret.
        retain_recall_loss: share of retain answers that may be lost against the baseline (at least one may).
        retain_strength_loss: fall of the retain answers' mean extraction strength that is allowed.
        max_retain: retain facts measured, evenly spread over those given.
        reply_margin: new tokens beyond the answer's own length.
        prefix_margin: the same after a prefix of the answer.
        templates: paraphrase templates of the audit.
    """

    name: str = "default"
    version: int = 1
    controls_per_fact: int = 2
    fully_probed_controls: int = 1
    seed: int = 20240911
    full_leaks_allowed: int = 0
    retain_recall_loss: float = 0.10
    retain_strength_loss: float = 0.20
    max_retain: int = 24
    reply_margin: int = 8
    prefix_margin: int = 4
    templates: tuple[str, ...] = AUDIT_TEMPLATES

    def __post_init__(self) -> None:
        violations = [
            Violation(name, f"must be at least {least}")
            for name, least in (
                ("version", 1),
                ("controls_per_fact", 1),
                ("fully_probed_controls", 1),
                ("full_leaks_allowed", 0),
                ("retain_recall_loss", 0),
                ("retain_strength_loss", 0),
                ("max_retain", 0),
                ("reply_margin", 0),
                ("prefix_margin", 0),
            )
            if getattr(self, name) < least
        ]
        if not all("{question}" in text or "{indirect}" in text for text in self.templates):
            violations.append(Violation("templates", "each needs {question} or {indirect}"))
        if violations:
            summary = "; ".join(f"{violation.field} {violation.message}" for violation in violations)
            raise ConfigError(f"audit policy {self.name!r}: {summary}", violations=violations)

    @property
    def digest(self) -> str:
        """Hex sha256 over the policy's canonical JSON; verdicts are cached under it."""
        canonical = json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @classmethod
    def from_yaml(cls, path: Path) -> Policy:
        """The policy in a YAML file; what it leaves out keeps its default.

        Raises:
            ConfigError: the file does not hold a mapping of this class's fields with values of their types.
        """
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ConfigError(f"audit policy {path}: must be a mapping of field to value")
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        if isinstance(data.get("templates"), list):
            data["templates"] = tuple(data["templates"])
        violations = [
            Violation(str(name), "is not a field of a policy") for name in data if name not in defaults
        ]
        violations += [
            Violation(name, f"must be a {type(defaults[name]).__name__}")
            for name, value in data.items()
            if name in defaults and not _is_like(value, defaults[name])
        ]
        if violations:
            summary = "; ".join(f"{violation.field} {violation.message}" for violation in violations)
            raise ConfigError(f"audit policy {path}: {summary}", violations=violations)
        return cls(**data)


def _is_like(value: object, default: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(isinstance(text, str) for text in value)
    return type(value) is type(default)


DEFAULT_POLICY = Policy()
