"""What lm-evaluation-harness is told, and what is read from its results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from expunge.auditing.ability.harness import (
    OWN,
    LocalFolder,
    ServedModel,
    accuracies,
    run_harness,
    write_tasks,
)
from expunge.auditing.ability.tasks import shipped_tasks
from expunge.errors import DeadlineExceeded, FailedPrecondition


def test_the_own_tasks_are_written_with_every_choice_and_the_right_one(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    for name, items in zip(OWN, (shipped_tasks().knowledge, shipped_tasks().reasoning), strict=True):
        task = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
        lines = Path(task["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
        documents = [json.loads(line) for line in lines]
        assert task["task"] == name
        for document, item in zip(documents, items, strict=True):
            assert document["choices"][document["answer"]] == item.texts[0]
            assert sorted(document["choices"]) == sorted(item.texts)
        assert len({document["answer"] for document in documents}) > 1


def test_golden_results_become_shares_with_wilsons_interval() -> None:
    results = {
        "results": {"arc_easy": {"alias": "arc_easy", "acc,none": 0.5}, "story": {"bleu,none": 3.0}},
        "n-samples": {"arc_easy": {"original": 2376, "effective": 10}, "story": {"effective": 10}},
        "versions": {"arc_easy": 1.0},
    }
    found = accuracies(results)
    assert found.keys() == {"arc_easy"}
    figure = found["arc_easy"]
    assert (figure.value, figure.n, figure.definition) == (0.5, 10, "lm-eval:arc_easy@1.0(acc)")
    assert (figure.lower, figure.upper) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_each_target_is_named_as_the_harness_wants_it(tmp_path: Path) -> None:
    served = ServedModel("http://localhost:8088/", "default", tmp_path, "secret")
    assert served.arguments[1] == "local-completions"
    assert "base_url=http://localhost:8088/v1/completions," in served.arguments[3]
    assert "secret" not in " ".join(served.arguments)  # other users of the machine can read those
    assert served.environment == {"OPENAI_API_KEY": "secret"}
    local = LocalFolder(tmp_path / "model", tmp_path / "adapter")
    assert local.arguments[3] == f"pretrained={tmp_path / 'model'},peft={tmp_path / 'adapter'}"


def interpreter(folder: Path, body: str) -> Path:
    """A program that is run in an interpreter's place."""
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\n{body}\n")
    script.chmod(0o755)
    return script


def test_an_environment_without_it_is_told_by_name(tmp_path: Path) -> None:
    python = interpreter(tmp_path, "import sys; sys.exit(f'{sys.executable}: No module named lm_eval')")
    with pytest.raises(FailedPrecondition, match=r"expunge\[lm-eval\]"):
        run_harness(LocalFolder(tmp_path), python=python)
    with pytest.raises(FailedPrecondition, match="can't be run"):
        run_harness(LocalFolder(tmp_path), python=tmp_path / "absent")


def test_what_it_said_when_it_failed_is_told(tmp_path: Path) -> None:
    python = interpreter(tmp_path, "import sys; sys.exit('no such task: piqa2')")
    with pytest.raises(FailedPrecondition, match="no such task: piqa2"):
        run_harness(LocalFolder(tmp_path), ["piqa2"], python=python)


def test_it_ends_at_its_time_limit(tmp_path: Path) -> None:
    python = interpreter(tmp_path, "import threading; threading.Event().wait()")
    with pytest.raises(DeadlineExceeded, match=r"0\.2 s"):
        run_harness(LocalFolder(tmp_path), python=python, timeout_s=0.2)
