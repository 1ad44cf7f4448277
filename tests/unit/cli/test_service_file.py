"""What a running service leaves for commands on the same machine."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import yaml

from expunge.gateway.service_file import ROLES, ServiceFile, create_tokens, credentials_path, read_credential
from expunge.gateway.tokens import TokenTable


def test_made_tokens_are_known_to_the_gateway_by_hash_only(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.yaml"
    assert create_tokens(tokens, tmp_path)
    table = TokenTable.read(tokens)
    for role in ROLES:
        plain = read_credential(tmp_path, role)
        caller = table.find(plain)
        assert caller is not None
        assert caller.role == role
        assert plain not in tokens.read_text()
        assert sha256(plain.encode()).hexdigest() in tokens.read_text()


def test_existing_tokens_are_left_alone(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(yaml.safe_dump({"tokens": []}))
    assert not create_tokens(tokens, tmp_path)
    assert not credentials_path(tmp_path).exists()
    assert read_credential(tmp_path, "client") == ""


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    create_tokens(tmp_path / "tokens.yaml", tmp_path)
    ServiceFile("a:1", "a:2", "a:3", "a:4", 5).write(tmp_path)
    for path in (tmp_path / "tokens.yaml", credentials_path(tmp_path), tmp_path / "service.json"):
        assert path.stat().st_mode & 0o077 == 0


def test_the_service_file_goes_away_with_the_service(tmp_path: Path) -> None:
    written = ServiceFile("a:1", "a:2", "a:3", "a:4", 5)
    written.write(tmp_path)
    assert ServiceFile.read(tmp_path) == written
    ServiceFile.remove(tmp_path)
    assert ServiceFile.read(tmp_path) is None
