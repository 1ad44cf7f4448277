"""lm-evaluation-harness against the live service, as its users run it: `local-completions` with token ids."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from deployed import Deployed
from expunge.auditing.ability.harness import OWN, ServedModel, run_harness
from expunge.auditing.ability.tasks import shipped_tasks
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

TASK = Path(__file__).parent / "lm_eval_task"
# An environment of its own: it brings half a gigabyte of libraries that nothing else here needs.
PYTHON = Path(os.environ.get("HARNESS_PYTHON", Path(__file__).parents[2] / ".venv-harness/bin/python"))
DOCUMENTS = [json.loads(line) for line in (TASK / "small_facts.jsonl").read_text().splitlines()]

Scored = tuple[float, bool]  # log-likelihood of a choice, and whether greedy decoding would write it


def by_harness(service: Deployed, model_folder: Path, folder: Path) -> tuple[float, list[list[Scored]]]:
    """The accuracy, and the scores of each document's choices."""
    arguments = {
        "model": "default",
        "base_url": f"http://{service.service.addresses.http}/v1/completions",
        "tokenizer": str(model_folder),
        "num_concurrent": "2",
    }
    command = [str(PYTHON), "-m", "lm_eval", "--model", "local-completions", "--tasks", "small_facts"]
    command += ["--include_path", str(TASK), "--output_path", str(folder / "out"), "--log_samples"]
    command += ["--batch_size", "3", "--model_args", ",".join(f"{k}={v}" for k, v in arguments.items())]
    _, bearer = service.metadata("client")[0]
    own = {"OPENAI_API_KEY": bearer.removeprefix("Bearer "), "HF_HOME": str(folder / "hub"), "PYTHONPATH": ""}
    done = subprocess.run(
        command, cwd=TASK, env=os.environ | own, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(next((folder / "out").rglob("results_*.json")).read_text())
    lines = next((folder / "out").rglob("samples_*.jsonl")).read_text().splitlines()
    samples = sorted(map(json.loads, lines), key=lambda sample: int(sample["doc_id"]))
    scores = [
        [(float(score), str(greedy) == "True") for ((score, greedy),) in sample["resps"]]
        for sample in samples
    ]
    return float(results["results"]["small_facts"]["acc,none"]), scores


def by_score(service: Deployed, question: str, choices: Sequence[str]) -> list[Scored]:
    stub, found = InferenceServiceStub(service.inference), []
    for choice in choices:
        request = pb.ScoreRequest(context=f"Question: {question}\nAnswer:", continuation=f" {choice}")
        scored = stub.Score(request, metadata=service.metadata("client"), timeout=60)
        found.append((scored.logprob, scored.is_greedy))
    return found


@pytest.mark.slow
@pytest.mark.skipif(
    not PYTHON.exists(), reason=f"no lm-evaluation-harness at {PYTHON}: make test-harness installs it"
)
def test_the_runner_asks_a_served_model_the_projects_own_tasks(
    service: Deployed, taught_model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, bearer = service.metadata("client")[0]
    url = f"http://{service.service.addresses.http}"
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    target = ServedModel(url, "default", taught_model_folder, bearer.removeprefix("Bearer "))
    found = run_harness(target, limit=4, python=PYTHON, timeout_s=280)
    assert {name: figure.n for name, figure in found.items()} == dict.fromkeys(OWN, 4)
    for name, items in zip(OWN, (shipped_tasks().knowledge, shipped_tasks().reasoning), strict=True):
        scores = [by_score(service, item.question, item.texts) for item in items[:4]]
        right = [choices[0] > max(choices[1:]) for choices in scores]
        assert found[name].value == pytest.approx(sum(right) / len(right))


@pytest.mark.slow
@pytest.mark.skipif(
    not PYTHON.exists(), reason=f"no lm-evaluation-harness at {PYTHON}: make test-harness installs it"
)
def test_the_harness_scores_what_score_scores(
    service: Deployed, taught_model_folder: Path, tmp_path: Path
) -> None:
    accuracy, harness = by_harness(service, taught_model_folder, tmp_path)
    direct = [by_score(service, document["question"], document["choices"]) for document in DOCUMENTS]
    assert [[score for score, _ in choices] for choices in harness] == [
        pytest.approx([score for score, _ in choices], abs=1e-3) for choices in direct
    ]
    assert [[greedy for _, greedy in choices] for choices in harness] == [
        [greedy for _, greedy in choices] for choices in direct
    ]
    best = [max(range(len(choices)), key=lambda place: choices[place][0]) for choices in direct]
    right = [place == document["answer"] for place, document in zip(best, DOCUMENTS, strict=True)]
    assert accuracy == pytest.approx(sum(right) / len(right))
