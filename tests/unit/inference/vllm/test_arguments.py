"""vLLM is started with our limits, and with nothing that would answer as another version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expunge.inference.limits import EngineLimits
from expunge.inference.vllm import worker
from expunge.inference.vllm.arguments import engine_arguments, lora_rank
from expunge.models.load import LoadedModel, load_outline

LIMITS = EngineLimits(max_rows=4, max_context=256, slots=3, max_rank=9, kv_bytes=5 * 2**20)


@pytest.fixture
def outline(tiny_model_folder: Path, tmp_path: Path) -> LoadedModel:
    return load_outline(str(tiny_model_folder), cache=tmp_path, dtype="bfloat16")


def test_there_is_a_slot_for_every_version_so_that_none_is_ever_evicted(outline: LoadedModel) -> None:
    found = engine_arguments(outline, LIMITS, gpus=0)
    assert (found["max_loras"], found["max_cpu_loras"], found["max_lora_rank"]) == (3, 3, 16)


def test_adapters_go_where_ours_may_have_factors_and_nowhere_else(outline: LoadedModel) -> None:
    targets = engine_arguments(outline, LIMITS, gpus=0)["lora_target_modules"]
    assert targets == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def test_a_scored_text_may_fill_the_context(outline: LoadedModel) -> None:
    assert engine_arguments(outline, LIMITS, gpus=0)["max_model_len"] == 257
    wide = replace(LIMITS, max_context=10_000)
    assert engine_arguments(outline, wide, gpus=0)["max_model_len"] == 2048  # the model has no more positions


def test_the_pool_of_keys_and_values_has_its_budget_on_a_cpu(outline: LoadedModel) -> None:
    found = engine_arguments(outline, LIMITS, gpus=0)
    assert (found["kv_cache_memory_bytes"], found["dtype"]) == (5 * 2**20, "bfloat16")
    assert "kv_cache_memory_bytes" not in engine_arguments(outline, LIMITS, gpus=2)


def test_gpus_share_one_model(outline: LoadedModel) -> None:
    assert engine_arguments(outline, LIMITS, gpus=2)["tensor_parallel_size"] == 2
    assert engine_arguments(outline, LIMITS, gpus=0)["tensor_parallel_size"] == 1


def test_only_safetensors_are_read_and_prompts_kept_only_where_asked_for(outline: LoadedModel) -> None:
    found = engine_arguments(outline, replace(LIMITS, keeps_prefixes=False), gpus=0)
    assert (found["load_format"], found["enable_prefix_caching"]) == ("safetensors", False)


def test_the_worker_extension_is_where_vllm_is_told_to_look(outline: LoadedModel) -> None:
    module, _, name = engine_arguments(outline, LIMITS, gpus=0)["worker_extension_cls"].rpartition(".")
    assert (module, getattr(worker, name)) == (worker.__name__, worker.FactorCensus)


@pytest.mark.parametrize(("rank", "size"), [(1, 8), (8, 8), (9, 16), (64, 64), (65, 128), (9999, 512)])
def test_ranks_are_rounded_up_to_sizes_that_vllm_has(rank: int, size: int) -> None:
    assert lora_rank(rank) == size
