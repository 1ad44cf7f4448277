"""Finding the service, and talking to it under TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from client.scripted_service import Script, answer, serving
from expunge.client import NO_RETRIES, Client, Tls, Unavailable
from expunge.client.channel import DEFAULT_STATE, Endpoint
from expunge.config import Settings
from expunge.errors import ConfigError
from expunge.gateway.service_file import ServiceFile, create_tokens, read_credential

VALID_FROM = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def test_the_local_service_is_found_by_what_it_left_in_its_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ServiceFile("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", pid=1).write(tmp_path)
    create_tokens(tmp_path / "tokens.yaml", tmp_path)
    found = Endpoint.local(tmp_path)
    assert found == Endpoint("127.0.0.1:1", read_credential(tmp_path, "client"))
    assert found.token
    monkeypatch.setenv("EXPUNGE_STATE_DIR", str(tmp_path))
    assert Endpoint.local() == found


def test_the_state_folder_is_the_one_that_services_use() -> None:
    assert Settings.model_fields["state_dir"].default == DEFAULT_STATE


def test_a_folder_without_a_service_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path)):
        Client.local(tmp_path)


def test_a_channel_under_tls_trusts_its_authority_only(tmp_path: Path) -> None:
    key, certificate = self_signed("serving.example")
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(certificate)
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    with serving(Script([[answer()]]), credentials) as address:
        with Client(address, "token", tls=Tls(ca_file, server_name="serving.example")) as client:
            assert client.generate(prompt="x").text == "Paris"
        with (
            Client(address, tls=Tls(server_name="serving.example"), retry=NO_RETRIES) as stranger,
            pytest.raises(Unavailable),
        ):
            stranger.generate(prompt="x")


def self_signed(name: str) -> tuple[bytes, bytes]:
    """Key and certificate in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_FROM.replace(year=2120))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, certificate.public_bytes(serialization.Encoding.PEM)
