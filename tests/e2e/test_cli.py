"""The command line against a running service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from deployed import Deployed
from expunge.cli.main import app
from tiny_facts import OTHERS
from tiny_model import build_tiny_adapter


def run(service: Deployed, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--state-dir", str(service.state)])


def document(service: Deployed, *arguments: str) -> dict[str, object]:
    result = run(service, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_generate_streams_an_answer_and_names_its_version(service: Deployed) -> None:
    question, answer = OTHERS[1]
    result = run(service, "generate", question)
    assert result.exit_code == 0
    assert answer in result.stdout
    assert document(service, "generate", question)["version"] == service.base


def test_generate_gives_several_answers_and_their_tokens(service: Deployed) -> None:
    question, answer = OTHERS[1]
    found = document(service, "generate", question, "-n", "2", "--logprobs", "1", "--seed", "3")
    assert found["text"] == answer
    tokens = found["logprobs"]
    assert isinstance(tokens, list)
    assert "".join(token["text"] for token in tokens) == answer
    (second,) = found["more_choices"]  # type: ignore[misc]
    assert second["text"] == answer  # both are greedy
    shown = run(service, "generate", question, "-n", "2").stdout
    assert shown.startswith(f"1: {answer}\n2: {answer}\n")


def test_generate_names_an_option_that_it_can_not_read(service: Deployed) -> None:
    result = run(service, "generate", "a", "--logit-bias", "the=5")
    assert result.exit_code == 2
    assert "ID=BIAS" in result.stderr


def test_an_adapter_is_pushed_shown_rolled_out_fetched_and_retired(
    service: Deployed, taught_model_folder: Path, tmp_path: Path
) -> None:
    folder = build_tiny_adapter(tmp_path / "adapter", taught_model_folder, seed=9)
    pushed = document(service, "adapter", "push", str(folder), "--name", "by-cli")["adapter"]
    assert isinstance(pushed, dict)
    version = pushed["id"]
    assert version in run(service, "adapter", "show", "by-cli").stdout
    assert run(service, "rollout", "set", "cli-alias", "by-cli").exit_code == 0
    assert version[:12] in run(service, "rollout", "show", "cli-alias").stdout
    assert run(service, "adapter", "retire", "by-cli").exit_code == 5, "an alias points at it"

    assert run(service, "adapter", "download", "by-cli", str(tmp_path / "copy")).exit_code == 0
    assert (tmp_path / "copy" / "adapter_config.json").is_file()
    weights = "adapter_model.safetensors"
    assert (tmp_path / "copy" / weights).read_bytes() == (folder / weights).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["adapter", "show", "nowhere"], 4),
        (["rollout", "show", "nowhere"], 4),
        (["rollout", "set", "default", "nowhere"], 4),
        (["erasure", "show", "nowhere"], 4),
        (["erasure", "report", "nowhere", "--format", "html"], 4),
        (["erasure", "report", "nowhere", "--reveal", "request.yaml"], 2),
        (["adapter", "list", "--token", "wrong"], 3),
        (["audit", "run", "nowhere"], 4),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_failures_have_their_exit_codes(service: Deployed, arguments: list[str], code: int) -> None:
    result = run(service, *arguments)
    assert result.exit_code == code, result.stderr
    assert result.stderr.startswith("✗")


def test_a_stale_generation_is_told_from_other_failures(service: Deployed) -> None:
    result = run(service, "rollout", "set", "default", service.base, "--expected-generation", "999")
    assert result.exit_code == 5
    assert "rollout show" in result.stderr
