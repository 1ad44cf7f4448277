"""Adapters travel between PEFT and this service, and both compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from expunge.lora.adapter import Adapter
from expunge.lora.compose import concat, recompress
from expunge.lora.peft_format import read_adapter, write_adapter
from expunge.lora.shape import ModelShape
from expunge.lora.slots import SlotTable
from expunge.lora.validation import validate_adapter
from expunge.models.skeleton import share_weights
from lora_cases import random_adapter

TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [100, 90, 80, 70, 60, 50, 40]])


@pytest.fixture(scope="module")
def base(tiny_model_folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32).eval()


def served_logits(base: PreTrainedModel, adapter: Adapter) -> torch.Tensor:
    model = share_weights(base)
    table = SlotTable.install(model, slots=1, max_rank=64)
    slot = table.load("v", adapter)
    with table.rows([slot, slot]), torch.inference_mode():
        return model(TOKENS).logits


def peft_logits(base: PreTrainedModel, folder: Path) -> torch.Tensor:
    model = PeftModel.from_pretrained(share_weights(base), folder).eval()
    with torch.inference_mode():
        return model(TOKENS).logits


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(q_proj|up_proj)"},
        {"target_modules": ["q_proj", "down_proj"], "use_rslora": True},
        {
            "target_modules": ["q_proj", "o_proj"],
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"o_proj": 3},
        },
        {"target_modules": ["gate_proj", "k_proj"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 7}},
        {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": "gaussian", "lora_dropout": 0.1},
    ],
    ids=str,
)
def test_adapter_of_peft_is_served_with_equal_logits(
    base: PreTrainedModel, tiny_shape: ModelShape, tmp_path: Path, settings: dict[str, object]
) -> None:
    torch.manual_seed(0)
    model = get_peft_model(
        share_weights(base), LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **settings)
    )
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter.data, std=0.1)
    model.save_pretrained(tmp_path)
    adapter = validate_adapter(tmp_path, tiny_shape, max_rank=8)
    expected = peft_logits(base, tmp_path)
    assert (served_logits(base, adapter) - expected).abs().max() < 1e-4
    assert (base(TOKENS).logits - expected).abs().max() > 0.1


@pytest.mark.parametrize("rslora", [False, True])
def test_adapter_of_ours_loads_in_peft_with_equal_logits(
    base: PreTrainedModel,
    tiny_shape: ModelShape,
    tmp_path: Path,
    rslora: bool,
    recwarn: pytest.WarningsRecorder,
) -> None:
    adapter = random_adapter(tiny_shape, rslora=rslora, rank_pattern={"down_proj": 6})
    write_adapter(adapter, tmp_path)
    assert (peft_logits(base, tmp_path) - served_logits(base, adapter)).abs().max() < 1e-4
    assert not [str(warning.message) for warning in recwarn if "peft" in warning.filename]


def test_sum_and_recompressed_adapters_load_in_peft(
    base: PreTrainedModel, tiny_shape: ModelShape, tmp_path: Path
) -> None:
    total = concat(
        random_adapter(tiny_shape, seed=1, targets=("q_proj", "v_proj")),
        random_adapter(tiny_shape, seed=2, rank=3, targets=("v_proj", "up_proj"), rslora=True),
    )
    for name, adapter in {"sum": total, "small": recompress(total, 5)}.items():
        write_adapter(adapter, tmp_path / name)
        expected = served_logits(base, adapter)
        assert (peft_logits(base, tmp_path / name) - expected).abs().max() < 1e-4
        assert (
            served_logits(base, validate_adapter(tmp_path / name, tiny_shape, max_rank=8)) - expected
        ).abs().max() == 0


def test_written_adapter_is_read_back_as_it_was(tiny_shape: ModelShape, tmp_path: Path) -> None:
    adapter = random_adapter(tiny_shape, rslora=True, alpha=3.5)
    write_adapter(adapter, tmp_path)
    back = read_adapter(tmp_path)
    assert back.config == adapter.config
    assert back.pairs.keys() == adapter.pairs.keys()
    for path, pair in adapter.pairs.items():
        assert torch.equal(back.pairs[path].a, pair.a)
        assert torch.equal(back.pairs[path].b, pair.b)
