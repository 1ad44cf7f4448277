from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import ConfigError, DataLoss
from expunge.facts import ErasureKind, Fact, ForgetRequest, QuestionAnswer, Subject
from expunge.registry import sealing
from expunge.registry.vault import MASTER_KEY_VARIABLE, Vault

VAULT = Vault(bytes(range(32)))
TEXT = st.text(max_size=30)


@given(plain=st.binary(max_size=200), context=TEXT)
def test_what_is_sealed_opens_under_its_context_only(plain: bytes, context: str) -> None:
    key, wrapped = VAULT.new_key("er-1")
    sealed = key.seal(plain, context)
    assert VAULT.unwrap(wrapped, "er-1").open(sealed, context) == plain
    with pytest.raises(DataLoss):
        key.open(sealed, context + "x")


def test_any_changed_byte_is_noticed() -> None:
    key, _ = VAULT.new_key("er-1")
    sealed = key.seal(b"facts", "request")
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(DataLoss):
            key.open(bytes(altered), "request")
    with pytest.raises(DataLoss):
        key.open(b"", "request")


def test_a_wrapped_key_serves_its_owner_only() -> None:
    _, wrapped = VAULT.new_key("er-1")
    with pytest.raises(DataLoss, match="er-2"):
        VAULT.unwrap(wrapped, "er-2")
    with pytest.raises(DataLoss):
        Vault(bytes(32)).unwrap(wrapped, "er-1")


def test_the_same_text_never_looks_the_same_twice() -> None:
    key, _ = VAULT.new_key("er-1")
    assert key.seal(b"facts", "c") != key.seal(b"facts", "c")


def test_keyed_hashes_tell_equality_and_depend_on_the_key() -> None:
    assert VAULT.mac(b"a") == VAULT.mac(b"a")
    assert len({VAULT.mac(b"a"), VAULT.mac(b"b"), Vault(bytes(32)).mac(b"a")}) == 3


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "master.key"
    first = Vault.load(file, create=True, environment={})
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["master.key"]
    assert Vault.load(file, create=True, environment={}).mac(b"a") == first.mac(b"a")


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    environment = {MASTER_KEY_VARIABLE: base64.b64encode(bytes(range(32))).decode()}
    file = tmp_path / "master.key"
    assert Vault.load(file, create=True, environment=environment).mac(b"a") == VAULT.mac(b"a")
    assert not file.exists()


@pytest.mark.parametrize(("text", "word"), [("@@@", "base64"), ("AAAA", "3 bytes")])
def test_a_bad_key_is_refused(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Vault.load(tmp_path / "k", create=True, environment={MASTER_KEY_VARIABLE: text})


@given(
    request=st.builds(
        ForgetRequest,
        request_id=TEXT,
        kind=st.sampled_from(ErasureKind),
        subjects=st.lists(st.builds(Subject, TEXT, st.tuples(TEXT)), max_size=2).map(tuple),
        facts=st.lists(
            st.builds(Fact, TEXT, TEXT, TEXT, st.tuples(TEXT, TEXT), st.tuples(TEXT), TEXT), max_size=3
        ).map(tuple),
        retain=st.lists(st.builds(QuestionAnswer, TEXT, TEXT), max_size=2).map(tuple),
        ground=TEXT,
        due_at=st.none() | st.floats(0, 1e10),
    )
)
def test_requests_survive_encoding(request: ForgetRequest) -> None:
    encoded = sealing.encode_request(request)
    assert sealing.decode_request(encoded) == request
    assert sealing.encode_request(sealing.decode_request(encoded)) == encoded
