"""The audit policy: what is asked and which gates a version must meet, versioned and named by a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from expunge.auditing.ability.tasks import Task, TaskSet, shipped_tasks
from expunge.auditing.attacks.attack import ATTACK_FIGURES, Attack
from expunge.auditing.gate_rules import GateRule, gate_rules
from expunge.auditing.paraphrases import AUDIT_TEMPLATES
from expunge.auditing.probes.attacks import Attacks, shipped_attacks
from expunge.auditing.probes.probe import ProbeKind
from expunge.config import Settings
from expunge.errors import ConfigError, Violation

SHIPPED = ("default", "strict")
_ALWAYS_ASKED = frozenset((ProbeKind.DIRECT,))  # whether the version served before told it is asked so, too
_LEAST = {
    "version": 1,
    "controls_per_fact": 1,
    "fully_probed": 0,
    "samples": 1,
    "max_retain": 0,
    "max_prefixes": 1,
    "ability_items": 2,
    "reply_margin": 0,
    "prefix_margin": 0,
    "relearning_steps": 1,
}


@dataclass(frozen=True)
class Policy:
    """What an audit asks, and its gates. `data/policies/default.yaml` says what each number is.

    Attributes:
        name, version: what operators call it; the version rises with every change of meaning.
        gates: which figures are judged, by which rule, and whether failing blocks.
        templates: paraphrase templates of the audit.
        attacks: templates of the other kinds of probes.
    """

    name: str
    version: int
    controls_per_fact: int
    fully_probed: float
    seed: int
    samples: int
    max_retain: int
    max_prefixes: int
    reply_margin: int
    prefix_margin: int
    pruned_share: float
    relearning_steps: int
    ability_items: int
    gates: tuple[GateRule, ...]
    templates: tuple[str, ...] = AUDIT_TEMPLATES
    attacks: Attacks = dataclasses.field(default_factory=shipped_attacks)

    def __post_init__(self) -> None:
        violations = [
            Violation(name, f"must be at least {least}")
            for name, least in _LEAST.items()
            if getattr(self, name) < least
        ]
        if not all("{question}" in text or "{indirect}" in text for text in self.templates):
            violations.append(Violation("templates", "each needs {question} or {indirect}"))
        if self.fully_probed > 1:
            violations.append(Violation("fully_probed", "must be at most 1, all of the facts"))
        if not 0 < self.pruned_share < 1:
            violations.append(Violation("pruned_share", "must lie between 0 and 1"))
        if violations:
            raise _refused(repr(self.name), violations)

    @property
    def digest(self) -> str:
        """Hex sha256 over the policy's canonical JSON, templates and tasks included; verdicts' cache key."""
        asked = {**dataclasses.asdict(self), "abilities": shipped_tasks().digest}
        canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def kinds(self, *, thorough: bool = False) -> frozenset[ProbeKind]:
        """Kinds of probes that are asked: those that a blocking gate judges, or any gate where `thorough`."""
        judged = self._judged(thorough)
        return _ALWAYS_ASKED | {kind for kind in ProbeKind if kind.value in judged}

    def weight_attacks(self, *, thorough: bool = False) -> tuple[Attack, ...]:
        """Attacks on weights that are made: those that a blocking gate judges, or any where `thorough`."""
        judged = self._judged(thorough)
        return tuple(dict.fromkeys(attack for name, attack in ATTACK_FIGURES.items() if name in judged))

    def tasks(self, *, thorough: bool = False) -> TaskSet:
        """Tasks of general ability that are asked: `ability_items` items of each whose loss a blocking gate
        judges; all items of each that any gate judges, where `thorough`."""
        judged = self._judged(thorough)
        asked = [task for task in Task if task.ability.value in judged]
        return shipped_tasks().some(asked, None if thorough else self.ability_items)

    def _judged(self, thorough: bool) -> set[str]:
        return {gate.figure for gate in self.gates if gate.blocking or thorough}

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """The one that the service is set to.

        Raises:
            ConfigError: names the setting and every field that can't be used.
        """
        try:
            return cls.named(settings.audit_policy)
        except ConfigError as error:
            raise ConfigError(
                f"audit_policy (EXPUNGE_AUDIT_POLICY): {error.message}", violations=error.violations
            ) from error

    @classmethod
    def named(cls, name: str) -> Policy:
        """One that comes along (`SHIPPED`), or the one in a YAML file.

        Raises:
            ConfigError: there is none of that name, or the file does not hold a policy.
        """
        if name in SHIPPED:
            return _shipped(name)
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"audit policy {name!r} does not exist; choose one of {', '.join(SHIPPED)}, or a YAML file"
            )
        return cls.from_yaml(path)

    @classmethod
    def from_yaml(cls, path: Path) -> Policy:
        """The policy in a YAML file; what it leaves out is as in the policy `default`, also single gates.

        Raises:
            ConfigError: the file does not hold a mapping of this class's fields with values of their types.
        """
        return _policy(path, _mapping(_shipped_file("default")))


def _shipped_file(name: str) -> Traversable:
    return resources.files("expunge.auditing") / "data" / "policies" / f"{name}.yaml"


@cache
def _shipped(name: str) -> Policy:
    return _policy(_shipped_file(name), _mapping(_shipped_file("default")))


def _mapping(file: Traversable) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"audit policy {file}: can't be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"audit policy {file}: must be a mapping of field to value")
    return data


def _policy(file: Traversable, default: dict[str, Any]) -> Policy:
    data = _mapping(file)
    names = {field.name for field in dataclasses.fields(Policy)}
    violations = [Violation(str(name), "is not a field of a policy") for name in data if name not in names]
    values: dict[str, Any] = {}
    for name, value in {**default, **data}.items():
        if name == "gates":
            own = {rule.figure: rule for rule in gate_rules(value, violations)}
            inherited = {rule.figure: rule for rule in gate_rules(default[name], [])}
            values[name] = tuple((inherited | own).values())
        elif name == "attacks":
            values[name] = Attacks.of(value)
        elif name == "templates":
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                violations.append(Violation(name, "must be a list of texts"))
            values[name] = tuple(value or ())
        else:
            if name in names and not _is_like(value, default[name]):
                violations.append(Violation(name, f"must be a {type(default[name]).__name__}"))
            values[name] = value
    if violations:
        raise _refused(str(file), violations)
    return Policy(**values)


def _is_like(value: object, default: object) -> bool:
    whole = type(default) is float and type(value) is int
    return whole or type(value) is type(default)


def _refused(what: str, violations: list[Violation]) -> ConfigError:
    summary = "; ".join(f"{violation.field} {violation.message}" for violation in violations)
    return ConfigError(f"audit policy {what}: {summary}", violations=violations)


DEFAULT_POLICY = Policy.named("default")
