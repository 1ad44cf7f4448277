"""Ports: shared within a service, refused to others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge.errors import ConfigError
from expunge.gateway.ports import PortClaims

HOST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def first(tmp_path: Path) -> Iterator[PortClaims]:
    claims = PortClaims("service one", HOST, tmp_path)
    yield claims
    claims.release()


def test_replicas_of_one_service_share_a_port(first: PortClaims, port: int, tmp_path: Path) -> None:
    first.share("inference_port", port)
    second = PortClaims("service one", HOST, tmp_path)
    second.share("inference_port", port)
    second.release()


def test_another_service_is_refused_until_the_first_has_left(
    first: PortClaims, port: int, tmp_path: Path
) -> None:
    first.share("inference_port", port)
    other = PortClaims("service two", HOST, tmp_path)
    with pytest.raises(ConfigError, match="another Expunge service"):
        other.share("inference_port", port)
    first.release()
    other.share("inference_port", port)
    other.release()


def test_a_port_of_another_program_is_refused(first: PortClaims, port: int) -> None:
    with socket.socket() as program:
        program.bind((HOST, port))
        program.listen()
        with pytest.raises(ConfigError, match="EXPUNGE_OPERATOR_PORT"):
            first.share("operator_port", port)


def test_each_replica_takes_a_metrics_port_of_its_own(first: PortClaims, port: int, tmp_path: Path) -> None:
    second = PortClaims("service one", HOST, tmp_path)
    assert first.take_first("metrics_port", port) == port
    assert second.take_first("metrics_port", port) > port
    second.release()


def test_port_zero_needs_no_claim(first: PortClaims) -> None:
    first.share("inference_port", 0)
    assert first.take_first("metrics_port", 0) == 0
