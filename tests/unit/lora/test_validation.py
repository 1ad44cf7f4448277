"""Every kind of bad adapter is refused, and the message names the fault."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from expunge.errors import DataLoss, InvalidAdapter
from expunge.lora.files import CONFIG_NAME, TENSORS_NAME
from expunge.lora.peft_format import write_adapter
from expunge.lora.shape import ModelShape
from expunge.lora.validation import validate_adapter
from lora_cases import random_adapter

Q = "base_model.model.model.layers.0.self_attn.q_proj"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tiny_shape: ModelShape, tmp_path: Path) -> Path:
    write_adapter(random_adapter(tiny_shape), tmp_path / "adapter")
    return tmp_path / "adapter"


def rewrite(folder: Path, change: Callable[[Tensors], None]) -> None:
    tensors = load_file(folder / TENSORS_NAME)
    change(tensors)
    save_file(tensors, folder / TENSORS_NAME)


def reconfigure(folder: Path, **fields: object) -> None:
    config = json.loads((folder / CONFIG_NAME).read_text())
    (folder / CONFIG_NAME).write_text(json.dumps({**config, **fields}))


def refusal(folder: Path, shape: ModelShape, **declared: object) -> str:
    with pytest.raises(InvalidAdapter) as refused:
        validate_adapter(folder, shape, max_rank=8, **declared)  # type: ignore[arg-type]
    assert refused.value.violations
    return refused.value.message


def test_good_adapter_with_true_declarations_is_accepted(folder: Path, tiny_shape: ModelShape) -> None:
    content = (folder / TENSORS_NAME).read_bytes()
    adapter = validate_adapter(
        folder,
        tiny_shape,
        max_rank=4,
        declared_size=len(content),
        declared_sha256=hashlib.sha256(content).hexdigest().upper(),
        declared_base=tiny_shape.base_digest,
    )
    assert adapter.rank == 4
    assert adapter.config.base_digest == tiny_shape.base_digest


def test_wrong_digest_is_data_loss(folder: Path, tiny_shape: ModelShape) -> None:
    with pytest.raises(DataLoss, match="sha256"):
        validate_adapter(folder, tiny_shape, max_rank=8, declared_sha256="0" * 64)


def test_file_larger_or_smaller_than_declared_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    size = (folder / TENSORS_NAME).stat().st_size
    assert "larger than declared" in refusal(folder, tiny_shape, declared_size=size - 1)
    assert "truncated" in refusal(folder, tiny_shape, declared_size=size + 1)


def test_wrong_base_is_refused_whether_declared_or_written(folder: Path, tiny_shape: ModelShape) -> None:
    assert "base model" in refusal(folder, tiny_shape, declared_base="f" * 64)
    assert "base model" in refusal(folder, ModelShape(tiny_shape.modules, "e" * 64))


class Exploit:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was opened",))


def test_pickle_is_refused_unopened(folder: Path, tiny_shape: ModelShape) -> None:
    (folder / TENSORS_NAME).write_bytes(pickle.dumps(Exploit()))
    assert "pickle" in refusal(folder, tiny_shape)
    torch.save({"x": torch.zeros(1)}, folder / TENSORS_NAME)
    assert "pickle" in refusal(folder, tiny_shape)
    (folder / TENSORS_NAME).rename(folder / "adapter_model.bin")
    assert "pickle" in refusal(folder, tiny_shape)


def test_truncated_file_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    content = (folder / TENSORS_NAME).read_bytes()
    for length in (0, 4, 100, len(content) - 1):
        (folder / TENSORS_NAME).write_bytes(content[:length])
        assert any(fault in refusal(folder, tiny_shape) for fault in ("truncated", "too short"))


def test_missing_config_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    (folder / CONFIG_NAME).unlink()
    assert CONFIG_NAME in refusal(folder, tiny_shape)


def test_wrong_width_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    rewrite(folder, lambda tensors: tensors.update({f"{Q}.lora_A.weight": torch.zeros(4, 65)}))
    assert "65 → 64, the base model has 64 → 64" in refusal(folder, tiny_shape)


def test_rank_other_than_configured_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    rewrite(folder, lambda tensors: tensors.update({f"{Q}.lora_A.weight": torch.zeros(5, 64)}))
    assert "ranks 5 (A) and 4 (B), the config says 4" in refusal(folder, tiny_shape)


def test_rank_over_the_limit_is_refused(tiny_shape: ModelShape, tmp_path: Path) -> None:
    write_adapter(random_adapter(tiny_shape, rank=9), tmp_path)
    assert "rank 9, the limit is 8" in refusal(tmp_path, tiny_shape)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_value_that_is_not_finite_is_refused(folder: Path, tiny_shape: ModelShape, value: float) -> None:
    def spoil(tensors: Tensors) -> None:
        tensors[f"{Q}.lora_B.weight"][3, 1] = value

    rewrite(folder, spoil)
    assert "NaN or infinite" in refusal(folder, tiny_shape)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.lm_head.weight",
        f"{Q}.lora_magnitude_vector.weight",
        f"{Q}.lora_A.default.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "../../../etc/passwd",
        "base_model.model.../../x.lora_A.weight",
    ],
)
def test_extra_tensor_is_refused(folder: Path, tiny_shape: ModelShape, name: str) -> None:
    rewrite(folder, lambda tensors: tensors.update({name: torch.zeros(4, 64)}))
    assert name in refusal(folder, tiny_shape)


def test_missing_half_of_a_pair_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    def drop(tensors: Tensors) -> None:
        del tensors[f"{Q}.lora_B.weight"]

    rewrite(folder, drop)
    assert "lora_B is missing" in refusal(folder, tiny_shape)


def test_target_module_without_factors_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    def drop(tensors: Tensors) -> None:
        del tensors[f"{Q}.lora_A.weight"], tensors[f"{Q}.lora_B.weight"]

    rewrite(folder, drop)
    assert "layers.0.self_attn.q_proj: is a target module without factors" in refusal(folder, tiny_shape)
    reconfigure(folder, target_modules="all-linear")
    assert "layers.0.self_attn.q_proj: is a target module without factors" in refusal(folder, tiny_shape)


def test_factors_outside_the_target_modules_are_refused(folder: Path, tiny_shape: ModelShape) -> None:
    reconfigure(folder, target_modules=["q_proj", "v_proj"])
    assert "no target module of the config" in refusal(folder, tiny_shape)


@pytest.mark.parametrize("target", ["query_key_value", "lm_head", "embed_tokens"])
def test_unknown_target_module_is_refused(folder: Path, tiny_shape: ModelShape, target: str) -> None:
    reconfigure(folder, target_modules=["q_proj", "v_proj", "down_proj", target])
    assert target in refusal(folder, tiny_shape)


def test_module_the_model_lacks_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    extra = {
        f"base_model.model.model.layers.7.self_attn.q_proj.lora_{f}.weight": torch.zeros(4, 64) for f in "A"
    }
    extra |= {"base_model.model.model.layers.7.self_attn.q_proj.lora_B.weight": torch.zeros(64, 4)}
    rewrite(folder, lambda tensors: tensors.update(extra))
    assert "layers.7.self_attn.q_proj: is no linear layer" in refusal(folder, tiny_shape)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, torch.float8_e4m3fn])
def test_number_format_that_is_not_served_is_refused(
    folder: Path, tiny_shape: ModelShape, dtype: torch.dtype
) -> None:
    rewrite(folder, lambda tensors: tensors.update({f"{Q}.lora_A.weight": torch.zeros(4, 64).to(dtype)}))
    assert "a float matrix is needed" in refusal(folder, tiny_shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accepted(folder: Path, tiny_shape: ModelShape, dtype: torch.dtype) -> None:
    rewrite(
        folder, lambda tensors: tensors.update({name: value.to(dtype) for name, value in tensors.items()})
    )
    assert validate_adapter(folder, tiny_shape, max_rank=8).rank == 4


def test_adapter_without_tensors_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    rewrite(folder, lambda tensors: tensors.clear())
    assert "no tensors" in refusal(folder, tiny_shape)


def test_unsupported_feature_is_refused(folder: Path, tiny_shape: ModelShape) -> None:
    reconfigure(folder, use_dora=True)
    assert "use_dora" in refusal(folder, tiny_shape)


def test_link_to_another_file_is_refused(folder: Path, tiny_shape: ModelShape, tmp_path: Path) -> None:
    (folder / TENSORS_NAME).rename(tmp_path / "elsewhere")
    (folder / TENSORS_NAME).symlink_to(tmp_path / "elsewhere")
    assert "no regular file" in refusal(folder, tiny_shape)


def test_shape_survives_json(tiny_shape: ModelShape) -> None:
    assert ModelShape.from_json(tiny_shape.to_json()) == tiny_shape


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_bytes_are_refused_and_never_crash(
    folder: Path, tiny_shape: ModelShape, data: st.DataObject
) -> None:
    """Arbitrary files, and good files with some bytes overwritten, cut or appended."""
    good = {}
    write_adapter(random_adapter(tiny_shape), folder)
    for name in (TENSORS_NAME, CONFIG_NAME):
        good[name] = (folder / name).read_bytes()
    victim = data.draw(st.sampled_from([TENSORS_NAME, CONFIG_NAME]))
    if data.draw(st.booleans()):
        content = data.draw(st.binary(max_size=300))
    else:
        at = data.draw(st.integers(0, min(4000, len(good[victim]) - 1)))
        patch = data.draw(st.binary(max_size=12))
        content = good[victim][:at] + patch + good[victim][at + data.draw(st.integers(0, 12)) :]
    (folder / victim).write_bytes(content)
    with contextlib.suppress(InvalidAdapter, DataLoss):
        validate_adapter(
            folder,
            tiny_shape,
            max_rank=8,
            declared_sha256=hashlib.sha256(good[TENSORS_NAME]).hexdigest()
            if data.draw(st.booleans())
            else None,
        )
