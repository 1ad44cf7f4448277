"""The tokens file."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from expunge.errors import ConfigError
from expunge.gateway.quotas import Quota
from expunge.gateway.roles import Role
from expunge.gateway.tokens import Caller, TokenTable

DIGEST = sha256(b"a token").hexdigest()


def write(folder: Path, text: str) -> Path:
    path = folder / "tokens.yaml"
    path.write_text(text)
    return path


def test_a_token_is_found_by_its_hash(tmp_path: Path) -> None:
    table = TokenTable.read(
        write(tmp_path, f"tokens: [{{token_sha256: {DIGEST}, principal: alice, role: operator}}]")
    )
    assert table.find("a token") == Caller("alice", Role.OPERATOR, quota=Quota())
    assert table.find("another") is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("tokens: {}", "list"),
        ("[", "YAML"),
        ("tokens: [{token_sha256: abc, principal: a, role: client}]", r"tokens\[0\].token_sha256"),
        (f"tokens: [{{token_sha256: {DIGEST}, role: client}}]", r"tokens\[0\].principal"),
        (f"tokens: [{{token_sha256: {DIGEST}, principal: a, role: root}}]", r"tokens\[0\].role"),
        (f"tokens: [{{token_sha256: {DIGEST}, principal: a, role: verifier}}]", r"tokens\[0\].role"),
    ],
)
def test_a_malformed_file_names_its_fault(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        TokenTable.read(write(tmp_path, text))


def test_a_missing_file_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="EXPUNGE_TOKENS_FILE"):
        TokenTable.read(tmp_path / "nothing.yaml")
