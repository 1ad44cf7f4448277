"""The tokens file."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from expunge.errors import ConfigError
from expunge.gateway.quotas import Quota
from expunge.gateway.roles import Role
from expunge.gateway.tokens import Caller, TokenTable
from expunge.inference.request import Priority

DIGEST = sha256(b"a token").hexdigest()
OTHER = sha256(b"another token").hexdigest()


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


def test_an_entry_says_what_its_client_may_take_and_leaves_the_rest_to_the_settings(tmp_path: Path) -> None:
    defaults = Quota(max_concurrent=7, tokens_per_minute=100, burst_tokens=50)
    table = TokenTable.read(
        write(
            tmp_path,
            f"""tokens:
            - {{token_sha256: {DIGEST}, principal: a, role: client, tokens_per_minute: 600, priority: batch}}
            - {{token_sha256: {OTHER}, principal: b, role: client, max_concurrent: 3}}""",
        ),
        defaults,
    )
    first, second = table.find("a token"), table.find("another token")
    assert first is not None
    assert second is not None
    assert first.quota == Quota(max_concurrent=7, tokens_per_minute=600, priority=Priority.BATCH)
    assert second.quota == Quota(max_concurrent=3, tokens_per_minute=100, burst_tokens=50)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ("max_concurrent: 0", r"tokens\[0\].max_concurrent must be a whole number of at least 1"),
        ("tokens_per_minute: -1", "tokens_per_minute must be"),
        ("tokens_per_minute: many", "tokens_per_minute must be"),
        ("max_concurrent: true", "max_concurrent must be"),
        ("burst_tokens: 10", "burst_tokens needs tokens_per_minute"),
        ("priority: highest", "priority must be one of interactive, batch"),
        ("max_concurent: 3", "max_concurent is not known"),
    ],
)
def test_a_quota_that_can_not_be_meant_is_named(tmp_path: Path, fields: str, named: str) -> None:
    text = f"tokens: [{{token_sha256: {DIGEST}, principal: a, role: client, {fields}}}]"
    with pytest.raises(ConfigError, match=named):
        TokenTable.read(write(tmp_path, text))


def test_two_tokens_of_one_client_have_one_quota(tmp_path: Path) -> None:
    entries = [
        f"{{token_sha256: {digest}, principal: a, role: client, max_concurrent: {limit}}}"
        for digest, limit in ((DIGEST, 3), (OTHER, 4))
    ]
    with pytest.raises(ConfigError, match=r"tokens\[1\].principal a has another quota"):
        TokenTable.read(write(tmp_path, f"tokens: [{', '.join(entries)}]"))
