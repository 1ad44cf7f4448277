"""The whole path on SmolLM2-135M-Instruct: the demo as a person starts it, held to its goals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.real_model, pytest.mark.timeout(900)]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Below /tmp: Ray puts Unix sockets below TMPDIR, whose paths may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="x", dir="/tmp") as folder:
        yield Path(folder)


def test_the_demo_meets_every_goal_and_leaves_nothing_running(short_folder: Path) -> None:
    """Every goal but the one in seconds, which a busy machine may miss and the demo itself reports."""
    expunge = Path(sys.executable).with_name("expunge")
    before = set(psutil.pids())
    done = subprocess.run(
        [str(expunge), "demo"],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(short_folder), "COLUMNS": "120"},
        timeout=880,
    )
    told = "\n".join(done.stdout.splitlines()[-80:])
    assert done.stdout, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    judged = [line for line in done.stdout.splitlines() if line.startswith(("✓ ", "✗ missed: "))]
    missed = [line for line in judged if line.startswith("✗")]
    assert len(judged) == 9, told
    assert all("within 240 s" in line for line in missed), told
    assert (done.returncode == 0) == (not missed)
    assert result["failed_requests"] == 0
    assert result["mixed_version_responses"] == 0
    assert result["facts_erased"] == result["leaks_before"] == 4
    assert (result["leaks_after"], result["paraphrase_leaks_after"]) == (0, 0)
    assert result["requests"] >= 50
    assert result["seconds_to_live"] > 0
    assert result["retain_correct_after"] >= result["retain_correct_before"] - 1
    assert len(result["versions"]) == 3
    assert not list(short_folder.glob("expunge-demo-*")), "its state is gone"
    left = [process for process in psutil.process_iter(["pid", "cmdline"]) if process.pid not in before]
    assert not [item for item in left if "ray" in " ".join(item.info["cmdline"] or []).lower()]
