"""`expunge serve` as its own process: it says where it listens, drains on SIGTERM, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from expunge.cli.main import app
from expunge.gateway.service_file import ServiceFile
from tiny_facts import OTHERS

QUESTION, ANSWER = OTHERS[1]
PORTS = ("--inference-port", "0", "--operator-port", "0", "--http-port", "0", "--metrics-port", "0")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "state"


@pytest.fixture(scope="module")
def serving(state: Path, taught_model_folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The process, once it has said that it is up."""
    command = [str(Path(sys.executable).with_name("expunge")), "serve", "--json", *PORTS]
    environment = {**os.environ, "EXPUNGE_DTYPE": "float32", "EXPUNGE_ENGINE_THREADS": "1"}
    environment["EXPUNGE_CACHE_DIR"] = str(state.parent / "cache")
    process = subprocess.Popen(
        [*command, "--state-dir", str(state), "--model", str(taught_model_folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said["inference"] == ServiceFile.read(state).inference  # type: ignore[union-attr]
    yield process
    if process.poll() is None:
        process.kill()


def test_commands_on_the_same_machine_find_it_by_its_state_folder(
    serving: subprocess.Popen[str], state: Path
) -> None:
    result = CliRunner().invoke(app, ["generate", QUESTION, "--state-dir", str(state)])
    assert result.exit_code == 0, result.stderr
    assert ANSWER in result.stdout


def test_a_second_service_on_the_same_state_is_refused(serving: subprocess.Popen[str], state: Path) -> None:
    result = CliRunner().invoke(app, ["serve", *PORTS, "--state-dir", str(state)])
    assert result.exit_code == 2
    assert "runs on the state folder" in result.stderr


def test_an_audit_policy_that_does_not_exist_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    state = tmp_path / "state"
    result = CliRunner().invoke(
        app, ["serve", *PORTS, "--state-dir", str(state)], env={"EXPUNGE_AUDIT_POLICY": "lenient"}
    )
    assert result.exit_code == 2
    assert "EXPUNGE_AUDIT_POLICY" in result.stderr
    assert not state.exists()


def test_sigterm_drains_it_and_leaves_no_process(serving: subprocess.Popen[str], state: Path) -> None:
    started = psutil.Process(serving.pid).children(recursive=True)
    assert started
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(timeout=60) == 0
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    assert ServiceFile.read(state) is None
