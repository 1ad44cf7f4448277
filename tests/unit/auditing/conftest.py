"""A tiny model that knows some facts by heart, as the auditing tests see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from expunge.benchmarks.plain_memo import PlainModel
from expunge.facts import ErasureKind, ForgetRequest, Subject
from expunge.inference.local import LocalModel, TeacherForced
from expunge.models.load import load_model
from tiny_model import teach_tiny_model

from .known_facts import FACTS, RETAIN


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def taught_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after it has learnt FACTS and RETAIN by heart."""
    pairs = [(item.question, item.answer) for item in (*FACTS, *RETAIN)]
    return teach_tiny_model(tmp_path_factory.mktemp("taught") / "model", tiny_model_folder, pairs)


@pytest.fixture(scope="session")
def retaining_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after it has learnt RETAIN only: it never knew FACTS."""
    pairs = [(item.question, item.answer) for item in RETAIN]
    return teach_tiny_model(tmp_path_factory.mktemp("never") / "model", tiny_model_folder, pairs)


@pytest.fixture(scope="session")
def plain(tiny_model_folder: Path, taught_folder: Path, retaining_folder: Path) -> PlainModel:
    """Versions "untouched", "knows" and "never", decoded one prompt at a time in fp32."""
    folders = {"untouched": tiny_model_folder, "knows": taught_folder, "never": retaining_folder}
    versions = {
        name: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for name, folder in folders.items()
    }
    return PlainModel(versions, AutoTokenizer.from_pretrained(tiny_model_folder))


class Versions:
    """The same three models as one `TextModel`, batched: a LocalModel for each."""

    def __init__(self, models: Mapping[str, LocalModel]) -> None:
        self._models = models
        face = next(iter(models.values()))
        self.eos_ids, self.eos_id = face.eos_ids, face.eos_id
        self.encode, self.decode, self.chat_ids = face.encode, face.decode, face.chat_ids

    def greedy(
        self, prompts: Sequence[Sequence[int]], version: str, max_new_tokens: int | Sequence[int]
    ) -> list[list[int]]:
        model = self._models[version]
        return model.greedy(prompts, model.base_version, max_new_tokens)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        version: str,
        max_new_tokens: int | Sequence[int],
        *,
        temperature: float,
        seed: int,
    ) -> list[list[int]]:
        model = self._models[version]
        return model.sample(prompts, model.base_version, max_new_tokens, temperature=temperature, seed=seed)

    def teacher_forced(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        version: str,
        *,
        moments: bool = False,
    ) -> list[TeacherForced]:
        model = self._models[version]
        return model.teacher_forced(pairs, model.base_version, moments=moments)


@pytest.fixture(scope="session")
def batched(
    tiny_model_folder: Path,
    taught_folder: Path,
    retaining_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Versions:
    """Versions "untouched", "knows" and "never" in fp32, as audits see them."""
    cache = tmp_path_factory.mktemp("cache")
    folders = {"untouched": tiny_model_folder, "knows": taught_folder, "never": retaining_folder}
    return Versions(
        {
            name: LocalModel(load_model(str(folder), cache=cache, dtype="float32"), slots=2, max_rank=4)
            for name, folder in folders.items()
        }
    )


@pytest.fixture(scope="session")
def request_to_forget() -> ForgetRequest:
    """An erasure of FACTS that gives RETAIN as data to keep."""
    return ForgetRequest("r-1", ErasureKind.PERSONAL_DATA, (Subject("Mira Voss"),), FACTS, RETAIN)
