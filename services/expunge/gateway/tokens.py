"""The static access tokens: a YAML file with the hash, principal and role of each.

tokens:
  - {token_sha256: <64 hex digits>, principal: alice, role: operator}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import yaml

from expunge.errors import ConfigError, Violation
from expunge.gateway.roles import Role

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_STATIC_ROLES = tuple(role for role in Role if role is not Role.VERIFIER)


@dataclass(frozen=True)
class Caller:
    """Who calls. `passing` holds the erasures whose guard does not apply to this caller."""

    principal: str
    role: Role
    passing: frozenset[str] = frozenset()


class TokenTable:
    """Looks up callers by the sha256 of their token; plain tokens are never kept."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self._callers = dict(callers)

    @classmethod
    def read(cls, path: Path) -> TokenTable:
        """The table in the YAML file at `path`.

        Raises:
            ConfigError: the file is missing or malformed; `violations` lists every problem.
        """
        try:
            data = yaml.safe_load(path.read_text())
        except FileNotFoundError as error:
            raise ConfigError(f"{path}: no such tokens file; set EXPUNGE_TOKENS_FILE") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: is not YAML: {error}") from error
        entries = data.get("tokens") if isinstance(data, dict) else None
        if not isinstance(entries, list):
            raise ConfigError(f"{path}: must hold a list named 'tokens'")
        return cls._of_entries(entries, path)

    @classmethod
    def _of_entries(cls, entries: Iterable[object], path: Path) -> TokenTable:
        callers: dict[str, Caller] = {}
        violations: list[Violation] = []
        for index, entry in enumerate(entries):
            fields = entry if isinstance(entry, dict) else {}
            digest, principal = str(fields.get("token_sha256", "")), str(fields.get("principal", ""))
            role = str(fields.get("role", ""))
            where = f"tokens[{index}]"
            if not _HEX_SHA256.fullmatch(digest):
                violations.append(Violation(f"{where}.token_sha256", "must be 64 lower-case hex digits"))
            elif digest in callers:
                violations.append(Violation(f"{where}.token_sha256", "occurs twice"))
            if not principal:
                violations.append(Violation(f"{where}.principal", "is empty"))
            if role not in _STATIC_ROLES:
                violations.append(Violation(f"{where}.role", f"must be one of {', '.join(_STATIC_ROLES)}"))
            if not violations:
                callers[digest] = Caller(principal, Role(role))
        if violations:
            problems = "; ".join(f"{violation.field} {violation.message}" for violation in violations)
            raise ConfigError(f"{path}: {problems}", violations=violations)
        return cls(callers)

    def find(self, token: str) -> Caller | None:
        return self._callers.get(sha256(token.encode()).hexdigest())
