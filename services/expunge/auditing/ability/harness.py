"""lm-evaluation-harness as a runner, in a process of its own: on a served model, or on a local folder.

It is optional (`expunge[lm-eval]`) and may live in an environment of its own, since it brings many libraries.
Its own sets come from a hub; the project's multiple-choice tasks are written down for it and need none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from expunge.auditing.ability.tasks import SET_VERSION, ChoiceItem, shipped_tasks
from expunge.auditing.intervals import wilson
from expunge.auditing.metrics.estimate import Estimate
from expunge.errors import DeadlineExceeded, FailedPrecondition

OWN = ("expunge_knowledge", "expunge_reasoning")
NEEDS_HUB = ("piqa", "arc_easy", "arc_challenge")  # MEOW's measures of understanding, asked with four shots
_TOLD = 600  # characters of what it said when it failed


@dataclass(frozen=True)
class ServedModel:
    """A model behind this service's HTTP API.

    Attributes:
        url: of the gateway's HTTP port, "http://127.0.0.1:8088".
        name: alias to ask.
        tokenizer: folder of the base model.
        token: bearer token of a client; "": none.
    """

    url: str
    name: str
    tokenizer: Path
    token: str = ""

    @property
    def arguments(self) -> list[str]:
        endpoint = f"base_url={self.url.rstrip('/')}/v1/completions"
        named = f"model={self.name},{endpoint},tokenizer={self.tokenizer},num_concurrent=2"
        return ["--model", "local-completions", "--model_args", named]

    @property
    def environment(self) -> Mapping[str, str]:
        return {"OPENAI_API_KEY": self.token or "none"}


@dataclass(frozen=True)
class LocalFolder:
    """A model in a folder, with an adapter in PEFT's format or without; the harness loads both itself."""

    folder: Path
    adapter: Path | None = None

    @property
    def arguments(self) -> list[str]:
        adapter = f",peft={self.adapter}" if self.adapter else ""
        return ["--model", "hf", "--model_args", f"pretrained={self.folder}{adapter}"]

    @property
    def environment(self) -> Mapping[str, str]:
        return {}


def run_harness(
    target: ServedModel | LocalFolder,
    tasks: Sequence[str] = OWN,
    *,
    shots: int = 0,
    limit: int | None = None,
    python: Path = Path(sys.executable),
    timeout_s: float = 3600.0,
) -> dict[str, Estimate]:
    """Accuracy of each task, with Wilson's interval.

    Args:
        tasks: of `OWN`, or any of the harness's own (`NEEDS_HUB`, …), which it downloads.
        shots: solved examples before each question.
        limit: ask at most so many items of each task.
        python: interpreter whose environment has the harness.

    Raises:
        FailedPrecondition: it is not installed there, or did not come to an end; what it said is told.
        DeadlineExceeded: it took longer than `timeout_s`.
    """
    with TemporaryDirectory(prefix="expunge-harness-") as name:
        folder = Path(name)
        write_tasks(folder)
        command = [str(python), "-m", "lm_eval", *target.arguments, "--tasks", ",".join(tasks)]
        command += ["--include_path", name, "--output_path", str(folder / "out"), "--num_fewshot", str(shots)]
        command += ["--limit", str(limit)] if limit else []
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, **target.environment},
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(f"lm-evaluation-harness took longer than {timeout_s:g} s") from error
        except OSError as error:
            raise FailedPrecondition(f"{python} can't be run: {error}") from error
        if done.returncode:
            raise _failed(python, done.stderr)
        found = next((folder / "out").rglob("results_*.json"))
        return accuracies(json.loads(found.read_text(encoding="utf-8")))


def accuracies(results: Mapping[str, Any]) -> dict[str, Estimate]:
    """`acc` of every task in a results file of the harness, with Wilson's interval; others are left out."""
    found = {}
    for task, figures in results["results"].items():
        if "acc,none" in figures and task in results["n-samples"]:
            n, share = int(results["n-samples"][task]["effective"]), float(figures["acc,none"])
            lower, upper = wilson(share * n, n)
            version = results["versions"].get(task, "?")
            found[task] = Estimate(share, lower, upper, n, f"lm-eval:{task}@{version}(acc)")
    return found


def write_tasks(folder: Path) -> None:
    """The project's multiple-choice tasks, as the harness reads them, under the names in `OWN`."""
    shipped = shipped_tasks()
    for name, items in zip(OWN, (shipped.knowledge, shipped.reasoning), strict=True):
        lines = [json.dumps(_document(item, place)) for place, item in enumerate(items)]
        data = folder / f"{name}.jsonl"
        data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "output_type": "multiple_choice",
            "test_split": "test",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "target_delimiter": " ",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": SET_VERSION},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def _document(item: ChoiceItem, place: int) -> dict[str, Any]:
    """The right answer's place changes from item to item; the harness takes the first of equal ones."""
    right, texts = place % len(item.texts), item.texts
    choices = [*texts[1 : right + 1], texts[0], *texts[right + 1 :]]
    return {"id": item.id, "question": item.question, "choices": choices, "answer": right}


def _failed(python: Path, said: str) -> FailedPrecondition:
    if "No module named lm_eval" in said:
        return FailedPrecondition(
            f"{python} has no lm-evaluation-harness; pip install 'expunge[lm-eval]', or name the interpreter "
            "of an environment that has it",
            reason="HARNESS_NOT_INSTALLED",
        )
    return FailedPrecondition(f"lm-evaluation-harness failed: {said.strip()[-_TOLD:]}")
