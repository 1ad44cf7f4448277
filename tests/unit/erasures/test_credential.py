from pathlib import Path

import pytest

from expunge.config import Settings
from expunge.erasures.credential import MAX_TTL_S, issue_credential, verification_key, verify_credential
from expunge.errors import ConfigError
from expunge.registry.vault import Vault

KEY = bytes(range(32))
NOW = 1_900_000_000.0


def test_a_credential_names_its_erasure_until_it_expires() -> None:
    token = issue_credential("e-17", KEY, NOW, 60)
    assert verify_credential(token, KEY, NOW) == ("e-17",)
    assert verify_credential(token, KEY, NOW + 59) == ("e-17",)
    assert verify_credential(token, KEY, NOW + 60) == ()


def test_a_credential_may_pass_several_guards() -> None:
    token = issue_credential("e-17", KEY, NOW, 60, alongside=["e-18", "e-19"])
    assert verify_credential(token, KEY, NOW) == ("e-17", "e-18", "e-19")


def test_an_erasure_id_may_hold_dots() -> None:
    assert verify_credential(issue_credential("e.1.7", KEY, NOW, 60), KEY, NOW) == ("e.1.7",)


@pytest.mark.parametrize("position", range(0, 100, 7))
def test_no_changed_character_is_accepted(position: int) -> None:
    token = issue_credential("e-17", KEY, NOW, 60)
    position %= len(token)
    changed = "0" if token[position] != "0" else "1"
    assert verify_credential(token[:position] + changed + token[position + 1 :], KEY, NOW) == ()


@pytest.mark.parametrize("token", ["", ".", "...", "expunge-verify.e.9999999999.", "é.é.é.é", "a" * 5000])
def test_malformed_tokens_are_refused_without_an_error(token: str) -> None:
    assert verify_credential(token, KEY, NOW) == ()


def test_another_key_does_not_verify() -> None:
    assert verify_credential(issue_credential("e-17", KEY, NOW, 60), bytes(32), NOW) == ()
    assert verify_credential(issue_credential("e-17", KEY, NOW, 60), b"", NOW) == ()


@pytest.mark.parametrize("ttl_s", [0, -1, MAX_TTL_S + 1])
def test_a_lifetime_has_limits(ttl_s: float) -> None:
    with pytest.raises(ValueError, match="lives"):
        issue_credential("e-17", KEY, NOW, ttl_s)


def test_every_process_derives_the_same_key_from_the_master_key(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    with pytest.raises(ConfigError, match="missing"):
        verification_key(settings)
    Vault.load(settings.resolved_master_key_file, create=True)
    assert verification_key(settings) == verification_key(settings)
    assert len(verification_key(settings)) == 32
