"""The command line itself: help without heavy imports, usage errors, the service that is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from expunge.cli.demo.cast import load_cast
from expunge.cli.main import app

COMMANDS = (
    ["serve"],
    ["demo"],
    ["generate"],
    ["chat"],
    ["forget"],
    ["finetune"],
    *(["adapter", verb] for verb in ("push", "list", "show", "retire", "download")),
    *(["rollout", verb] for verb in ("show", "set", "rollback", "watch")),
    *(["erasure", verb] for verb in ("list", "show", "watch", "cancel", "report")),
    *(["audit", verb] for verb in ("run", "show")),
    *(["bench", name] for name in ("audit", "memo")),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_takes_json(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--json" in result.output


def test_help_imports_neither_torch_nor_ray() -> None:
    heavy = "('torch', 'ray', 'transformers')"
    code = f"import sys, expunge.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_service_that_is_not_there_gives_a_sentence_a_remedy_and_exit_code_6(tmp_path: Path) -> None:
    arguments = ["rollout", "show", "--operator-address", "127.0.0.1:1", "--state-dir", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 6
    assert "can't be reached" in result.stderr
    assert "expunge serve" in result.stderr


def test_with_json_a_failure_is_a_document_too(tmp_path: Path) -> None:
    arguments = [
        "erasure",
        "list",
        "--operator-address",
        "127.0.0.1:1",
        "--state-dir",
        str(tmp_path),
        "--json",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 6
    assert json.loads(result.stdout)["status"] == "UNAVAILABLE"


def test_wrong_usage_has_exit_code_2(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["rollout", "set"]).exit_code == 2
    missing = CliRunner().invoke(
        app, ["forget", str(tmp_path / "nowhere.yaml"), "--state-dir", str(tmp_path)]
    )
    assert missing.exit_code == 2
    assert "can't be read" in missing.stderr


def test_the_demo_erases_one_person_and_never_names_those_it_scores_retention_on() -> None:
    cast = load_cast()
    request = cast.erasure("request")
    assert len(request.facts) == 4
    assert len(request.retain) == 8
    held_out = {fact.question for entity in cast.held_out for fact in entity.facts}
    assert len(held_out) == 12
    assert not held_out & {item.question for item in (*request.facts, *request.retain)}


@pytest.mark.parametrize("steps", ["", "1;10", "10,x", "1.5,100"])
def test_steps_of_a_canary_are_whole_percents_with_commas(steps: str, tmp_path: Path) -> None:
    arguments = ["rollout", "set", "default", "new", "--canary", "--steps", steps]
    result = CliRunner().invoke(
        app, [*arguments, "--operator-address", "127.0.0.1:1", "--state-dir", str(tmp_path)]
    )
    assert result.exit_code == 2
    assert "steps" in result.stderr
