"""The serving benchmark against the running service: few requests, and everything it compares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from deployed import Deployed
from expunge.cli.main import app
from expunge.client import Client

STREAMS, TOKENS, FLOOD = 2, 8, 8
CONTENDERS = {"expunge", "engine in process", "expunge, during rollouts", "expunge, during a flood"}


def bench(service: Deployed, out: Path, *arguments: str) -> Result:
    where = ("--address", service.service.addresses.inference, "--state-dir", str(service.state))
    model = ("--model", service.service.settings.model, "--dtype", "float32")
    return CliRunner().invoke(app, ["bench", "serving", *where, *model, "--out", str(out), *arguments])


@pytest.fixture(autouse=True)
def cache(service: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_CACHE_DIR", str(service.service.settings.cache))


def test_a_small_matrix_is_measured_and_written_down(service: Deployed, tmp_path: Path) -> None:
    loads = ("--streams", str(STREAMS), "--prompts", "16", "--adapters", "0,1", "--open")
    beside = ("--in-process", "--during-rollouts", "--flood", str(FLOOD))
    done = bench(service, tmp_path, *loads, *beside, "--output-tokens", str(TOKENS), "--json")
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "serving.json").read_text())
    assert json.loads(done.stdout) == document
    order = [(cell["loop"], cell["adapters"]) for cell in document["cells"]]
    assert order == [("closed", 0), ("open", 0), ("closed", 1), ("open", 1)]
    for cell in document["cells"]:
        assert set(cell["measured"]) == CONTENDERS
        assert set(cell["ratios"]) == CONTENDERS - {"expunge"}
        for measured in cell["measured"].values():
            figures = measured["figures"]
            assert (figures["errors"], figures["mixed_versions"]) == (0, 0)
            assert figures["requests"] == 4
            assert figures["prompt_tokens"] == [16, 16]
            assert 0 < figures["output_tokens"] <= 4 * TOKENS
            assert figures["output_tokens"] == 4 * TOKENS or figures["short"] > 0
            assert measured["footprint"]["peak_rss_mib"] > 0
        assert cell["measured"]["expunge, during rollouts"]["rollouts"] > 0
        assert cell["measured"]["expunge, during a flood"]["flood"]["answered"] > 0
    with Image.open(tmp_path / "serving.png") as picture:
        assert picture.format == "PNG"
    with Client.local(service.state) as client:
        versions = {model.alias: model.targets[0].version for model in client.models()}
    shown = CliRunner().invoke(
        app, ["adapter", "show", "bench-a", "--json", "--state-dir", str(service.state)]
    )
    assert versions["bench-a"] == json.loads(shown.stdout)["adapter"]["id"], "flipped back in the end"
    assert versions["bench-base"] == service.base


def test_a_peer_that_is_not_there_is_told_at_once(service: Deployed, tmp_path: Path) -> None:
    done = bench(service, tmp_path, "--adapters", "0", "--peer", "vllm", "--peer-url", "http://127.0.0.1:9")
    assert done.exit_code == 6, done.output
    assert "--peer-model" in done.stderr
