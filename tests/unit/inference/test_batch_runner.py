"""Flat batches compute what the plain model does: with kernels and without, whole or in pieces."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from expunge.errors import ConfigError, FailedPrecondition, ModelError
from expunge.inference.batch_runner import BatchRunner
from expunge.inference.flat_batch import FlatBatch, Piece
from expunge.inference.fused_layers import FusedAttention, FusedNorm
from expunge.inference.local import LocalModel
from expunge.inference.native.kernels import PANEL
from expunge.inference.native.packed_weight import PackedWeight
from expunge.lora.adapter import Adapter, Pair
from expunge.lora.linear import PackedLayer
from expunge.models.load import LoadedModel, load_model, round_weights
from expunge.models.precision import Precision

PROMPTS = ([5, 9, 200, 31, 7], list(range(40, 75)), [3])


@pytest.fixture(params=[True, False], ids=["kernels", "torch"])
def runner(
    request: pytest.FixtureRequest,
    loaded: LoadedModel,
    adapters: tuple[Adapter, Adapter],
    kernels_folder: Path,
) -> BatchRunner:
    runner = BatchRunner(loaded, 4, 8, 2**20, kernels_folder=kernels_folder if request.param else None)
    assert any(isinstance(module, FusedNorm) for module in runner.model.modules()) == request.param
    runner.table.load_base(loaded.version)
    for name, adapter in zip(("one", "two"), adapters, strict=True):
        runner.table.load(name, adapter)
    return runner


def pieces_of(
    runner: BatchRunner, version: str, start: int, end: int, order: tuple[int, ...] = (0, 1, 2)
) -> list[Piece]:
    """Tokens [start, end) of every prompt, all of which are wanted."""
    slot = runner.table.slot_of(version)
    return [
        Piece(
            PROMPTS[index][start:end],
            start,
            range(7 + 3 * index, 4 + 3 * index, -1),
            slot,
            range(len(PROMPTS[index][start:end])),
        )
        for index in order
        if PROMPTS[index][start:end]
    ]


@torch.inference_mode()
def plainly(model: PreTrainedModel) -> Tensor:
    return torch.cat([model(input_ids=torch.tensor([prompt])).logits[0] for prompt in PROMPTS])


def test_several_prompts_in_one_pass_are_each_computed_alone(
    runner: BatchRunner, loaded: LoadedModel, plain: PreTrainedModel
) -> None:
    got = runner.run(FlatBatch.of(pieces_of(runner, loaded.version, 0, 100)))
    torch.testing.assert_close(got, plainly(plain), rtol=1e-4, atol=1e-4)


def test_a_prompt_in_pieces_gives_the_same(
    runner: BatchRunner, loaded: LoadedModel, plain: PreTrainedModel
) -> None:
    parts = [
        runner.run(FlatBatch.of(pieces_of(runner, loaded.version, start, end, (1,))))
        for start, end in ((0, 3), (3, 19), (19, 20), (20, 35))
    ]
    expected = plainly(plain)[len(PROMPTS[0]) : len(PROMPTS[0]) + len(PROMPTS[1])]
    torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-4, atol=1e-4)


def test_every_token_runs_on_its_own_version(runner: BatchRunner, loaded: LoadedModel) -> None:
    versions = ("one", loaded.version, "two")
    alone = [
        runner.run(FlatBatch.of(pieces_of(runner, version, 0, 100, (index,))))
        for index, version in enumerate(versions)
    ]
    mixed = [
        piece
        for index, version in enumerate(versions)
        for piece in pieces_of(runner, version, 0, 100, (index,))
    ]
    torch.testing.assert_close(runner.run(FlatBatch.of(mixed)), torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_kernels_and_torch_agree_under_every_version(
    runner: BatchRunner, adapters: tuple[Adapter, Adapter], tiny_model_folder: Path, tmp_path: Path
) -> None:
    loaded = load_model(str(tiny_model_folder), cache=tmp_path, dtype="float32")
    torch_alone = BatchRunner(loaded, 4, 8, 2**20)
    torch_alone.table.load("one", adapters[0])
    expected = torch_alone.run(FlatBatch.of(pieces_of(torch_alone, "one", 0, 100)))
    got = runner.run(FlatBatch.of(pieces_of(runner, "one", 0, 100)))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def rounded(loaded: LoadedModel) -> LoadedModel:
    """With weights that bfloat16 holds, whatever the processor of the test can do."""
    round_weights(loaded.model, torch.bfloat16)
    return replace(loaded, precision=Precision(torch.bfloat16, torch.float32))


def test_weights_in_bfloat16_compute_what_the_rounded_model_does_in_fp32(
    loaded: LoadedModel, plain: PreTrainedModel, kernels_folder: Path
) -> None:
    plain = copy.deepcopy(plain)
    unrounded = plainly(plain)
    round_weights(plain, torch.bfloat16)
    expected = plainly(plain)
    runner = BatchRunner(rounded(loaded), 4, 8, 2**20, kernels_folder=kernels_folder)
    runner.table.load_base(loaded.version)
    got = runner.run(FlatBatch.of(pieces_of(runner, loaded.version, 0, 100)))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert (expected - unrounded).abs().max() > 1e-2  # rounding is no trifle


def test_local_model_and_engine_agree_on_weights_in_bfloat16(
    loaded: LoadedModel,
    adapters: tuple[Adapter, Adapter],
    tiny_model_folder: Path,
    tmp_path: Path,
    kernels_folder: Path,
) -> None:
    runner = BatchRunner(rounded(loaded), 4, 8, 2**20, kernels_folder=kernels_folder)
    runner.table.load("one", adapters[0])
    local = LocalModel(
        rounded(load_model(str(tiny_model_folder), cache=tmp_path, dtype="float32")), slots=4, max_rank=8
    )
    local.load_adapter("one", adapters[0])
    logits = runner.run(FlatBatch.of(pieces_of(runner, "one", 0, 100, (1,))))[:-1]
    answer = torch.tensor(PROMPTS[1][1:])
    (forced,) = local.teacher_forced([(PROMPTS[1][:1], PROMPTS[1][1:])], "one")
    found = logits.log_softmax(-1).gather(1, answer[:, None])[:, 0]
    torch.testing.assert_close(found, forced.logprobs, rtol=1e-4, atol=1e-4)


def test_a_weight_is_held_once_and_in_its_own_format(loaded: LoadedModel, kernels_folder: Path) -> None:
    """Linear layers, the head, and the embedding that shares its weight."""
    matrices = [weakref.ref(one) for one in loaded.model.parameters() if one.dim() == 2]
    numbers = sum(one.numel() for one in loaded.model.parameters() if one.dim() == 2)
    padding = -loaded.model.config.vocab_size % PANEL * loaded.model.config.hidden_size
    model = BatchRunner(rounded(loaded), 4, 8, 2**20, kernels_folder=kernels_folder).model
    assert not any(one() is not None for one in matrices)
    assert all(one.dim() == 1 for one in model.parameters())
    values = [value for module in model.modules() for value in vars(module).values()]
    weights = [value.weight if isinstance(value, PackedLayer) else value for value in values]
    held = {id(one.numbers): one.numbers for one in weights if isinstance(one, PackedWeight)}.values()
    assert {one.dtype for one in held} == {torch.bfloat16}
    assert sum(one.untyped_storage().nbytes() for one in held) == 2 * (numbers + padding)


@pytest.mark.parametrize("family", [LlamaConfig, Qwen2Config, MistralConfig, Qwen3Config, GemmaConfig])
def test_models_of_other_families_compute_what_they_should(
    loaded: LoadedModel, kernels_folder: Path, family: type[PretrainedConfig]
) -> None:
    """With heads as wide as real ones; what the kernels don't know stays the model's own."""
    config = family(
        vocab_size=loaded.model.config.vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        initializer_range=0.15,
        sliding_window=None,
    )
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config).eval()
    expected = plainly(model)
    runner = BatchRunner(replace(loaded, model=model), 4, 8, 2**20, kernels_folder=kernels_folder)
    runner.table.load_base(loaded.version)
    fused = any(isinstance(module, FusedAttention) for module in model.modules())
    assert fused == (family in (LlamaConfig, Qwen2Config, MistralConfig))
    got = runner.run(FlatBatch.of(pieces_of(runner, loaded.version, 0, 100)))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_32_versions_mix_in_one_batch(
    loaded: LoadedModel, adapters: tuple[Adapter, Adapter], kernels_folder: Path
) -> None:
    runner = BatchRunner(loaded, 32, 8, 2**20, kernels_folder=kernels_folder)
    slots = [
        runner.table.load(f"v{index}", _scaled(adapters[index % 2], 1 + index / 8)) for index in range(32)
    ]
    pieces = [Piece(PROMPTS[0], 0, [index], slot, range(4, 5)) for index, slot in enumerate(slots)]
    alone = torch.cat([runner.run(FlatBatch.of([piece])) for piece in pieces])
    torch.testing.assert_close(runner.run(FlatBatch.of(pieces)), alone, rtol=1e-4, atol=1e-4)
    assert len(alone.argmax(-1).unique()) > 4  # they do answer differently
    with pytest.raises(FailedPrecondition, match="all 32 adapter slots are taken"):
        runner.table.load("one more", adapters[0])


def _scaled(adapter: Adapter, factor: float) -> Adapter:
    pairs = {path: Pair(pair.a, pair.b * factor) for path, pair in adapter.pairs.items()}
    return replace(adapter, pairs=pairs)


def test_numbers_that_are_not_finite_stay_in_their_own_sequence(
    runner: BatchRunner, loaded: LoadedModel
) -> None:
    good = pieces_of(runner, "two", 0, 100, (1,))
    expected = runner.run(FlatBatch.of(good))
    for pair in runner.table._by_version["one"].pairs or ():
        for factor in pair or ():
            factor.fill_(float("nan"))
    bad = pieces_of(runner, "one", 0, 100, (0,))
    logits = runner.run(FlatBatch.of([*bad, *good]))
    assert not logits[: len(PROMPTS[0])].isfinite().any()
    torch.testing.assert_close(logits[len(PROMPTS[0]) :], expected, rtol=1e-4, atol=1e-4)
    after = [Piece(PROMPTS[1], 0, bad[0].blocks, good[0].slot, range(len(PROMPTS[1])))]
    torch.testing.assert_close(runner.run(FlatBatch.of(after)), expected, rtol=1e-4, atol=1e-4)


def test_a_model_that_computes_something_else_is_refused(loaded: LoadedModel) -> None:
    """One whose attention has a part that flat batches don't know."""
    norm = loaded.model.model.norm
    calls: list[int] = []

    def differently(_: object, __: object, output: Tensor) -> Tensor:
        calls.append(1)
        return output * len(calls)

    norm.register_forward_hook(differently)
    with pytest.raises(ModelError, match="computes something else over the paged KV cache"):
        BatchRunner(loaded, 4, 8, 2**20)


def test_a_budget_beyond_the_memory_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="lower EXPUNGE_KV_CACHE_MIB"):
        BatchRunner(loaded, 4, 8, 2**50)


def test_a_budget_too_small_for_anything_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ModelError, match="raise EXPUNGE_KV_CACHE_MIB"):
        BatchRunner(loaded, 4, 8, 2**10)
