"""The tiny model as the inference package takes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expunge.inference.local import LocalModel
from expunge.lora.adapter import Adapter
from expunge.lora.peft_format import read_adapter
from expunge.models.load import LoadedModel, load_model


@pytest.fixture
def loaded(tiny_model_folder: Path, tmp_path: Path) -> LoadedModel:
    """The tiny base model, fp32, fresh."""
    return load_model(str(tiny_model_folder), cache=tmp_path, dtype="float32")


@pytest.fixture
def adapters(tiny_adapter_folders: tuple[Path, Path]) -> tuple[Adapter, Adapter]:
    """Two adapters that answer differently from the base and from each other."""
    first, second = tiny_adapter_folders
    return read_adapter(first), read_adapter(second)


@pytest.fixture
def local(loaded: LoadedModel, adapters: tuple[Adapter, Adapter]) -> LocalModel:
    """The base version, "one" and "two", resident."""
    model = LocalModel(loaded, slots=4, max_rank=8, max_rows=4)
    model.load_adapter("one", adapters[0])
    model.load_adapter("two", adapters[1])
    return model


@pytest.fixture
def plain(tiny_model: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> PreTrainedModel:
    """The same base model as transformers runs it."""
    return tiny_model[0]


def generate_plainly(model: PreTrainedModel, prompt: list[int], new_tokens: int) -> list[int]:
    """What `transformers` generates greedily, without the EOS."""
    with torch.inference_mode():
        whole = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=new_tokens,
            do_sample=False,
        )[0].tolist()
    answer = whole[len(prompt) :]
    eos = model.generation_config.eos_token_id
    return answer[: answer.index(eos)] if eos in answer else answer
