"""The static access tokens: a YAML file with the hash, principal and role of each, and perhaps its quota.

tokens:
  - {token_sha256: <64 hex digits>, principal: alice, role: operator}
  - token_sha256: <64 hex digits>
    principal: nightly-report
    role: client
    max_concurrent: 4         # answers under way at once
    tokens_per_minute: 60000  # prompt and generated tokens on average; 0: no limit
    burst_tokens: 10000       # most of them at once; 0: as many as a minute's
    priority: batch           # the highest this client gets; or interactive

Quotas hold for each principal and gateway process: N gateways multiply them. What an entry leaves out, the
settings `client_*` say.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from expunge.errors import ConfigError, Violation
from expunge.gateway.quotas import Quota
from expunge.gateway.roles import Role
from expunge.inference.request import Priority

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_STATIC_ROLES = tuple(role for role in Role if role is not Role.VERIFIER)


_LEAST = {"max_concurrent": 1, "tokens_per_minute": 0, "burst_tokens": 0}
_FIELDS = {"token_sha256", "principal", "role", "priority", *_LEAST}


@dataclass(frozen=True)
class Caller:
    """Who calls. `passing` holds the erasures whose guard does not apply to this caller.

    `quota` is None for callers that no file names; they get what the settings say.
    """

    principal: str
    role: Role
    passing: frozenset[str] = frozenset()
    quota: Quota | None = None


class TokenTable:
    """Looks up callers by the sha256 of their token; plain tokens are never kept."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self._callers = dict(callers)

    @classmethod
    def read(cls, path: Path, defaults: Quota | None = None) -> TokenTable:
        """The table in the YAML file at `path`.

        Args:
            defaults: what entries leave out of their quota.

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
        callers, violations = _callers_of(entries, defaults or Quota())
        if violations:
            problems = "; ".join(f"{violation.field} {violation.message}" for violation in violations)
            raise ConfigError(f"{path}: {problems}", violations=violations)
        return cls(callers)

    def find(self, token: str) -> Caller | None:
        return self._callers.get(sha256(token.encode()).hexdigest())


def _callers_of(entries: Iterable[object], defaults: Quota) -> tuple[dict[str, Caller], list[Violation]]:
    """The callers by the hash of their tokens, and everything that is wrong."""
    callers: dict[str, Caller] = {}
    quotas: dict[str, Quota] = {}
    violations: list[Violation] = []
    for index, entry in enumerate(entries):
        fields = entry if isinstance(entry, dict) else {}
        found = [*_identity_violations(fields, callers), *_quota_violations(fields, defaults)]
        if not found:
            principal, quota = str(fields["principal"]), _quota(fields, defaults)
            if quotas.setdefault(principal, quota) != quota:
                found = [Violation("principal", f"{principal} has another quota in an earlier entry")]
            callers[str(fields["token_sha256"])] = Caller(principal, Role(fields["role"]), quota=quota)
        violations += [Violation(f"tokens[{index}].{one.field}", one.message) for one in found]
    return callers, violations


def _identity_violations(fields: Mapping[str, object], known: Container[str]) -> Iterator[Violation]:
    digest = str(fields.get("token_sha256", ""))
    if not _HEX_SHA256.fullmatch(digest):
        yield Violation("token_sha256", "must be 64 lower-case hex digits")
    elif digest in known:
        yield Violation("token_sha256", "occurs twice")
    if not str(fields.get("principal", "")):
        yield Violation("principal", "is empty")
    if str(fields.get("role", "")) not in _STATIC_ROLES:
        yield Violation("role", f"must be one of {', '.join(_STATIC_ROLES)}")


def _quota_violations(fields: Mapping[str, object], defaults: Quota) -> Iterator[Violation]:
    for name in sorted(set(map(str, fields)) - _FIELDS):
        yield Violation(name, f"is not known; there are {', '.join(sorted(_FIELDS))}")
    for name, least in _LEAST.items():
        value = fields.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            yield Violation(name, f"must be a whole number of at least {least}")
    if fields.get("burst_tokens") and not fields.get("tokens_per_minute", defaults.tokens_per_minute):
        yield Violation("burst_tokens", "needs tokens_per_minute, or nothing limits this client")
    if fields.get("priority", Priority.INTERACTIVE) not in tuple(Priority):
        yield Violation("priority", f"must be one of {', '.join(Priority)}")


def _quota(fields: Mapping[str, Any], defaults: Quota) -> Quota:
    """The quota in an entry's fields, which have been checked.

    Where an entry has a rate and no burst of its own, its burst is a minute's worth.
    """
    given = {name: fields[name] for name in _LEAST if name in fields}
    if "tokens_per_minute" in given:
        given.setdefault("burst_tokens", 0)
    return replace(defaults, **given, priority=Priority(fields.get("priority", defaults.priority)))
