"""The kernels in C compute what torch does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from expunge.inference.native.build import load_library
from expunge.inference.native.kernels import BLOCK, MAX_QUERIES, Kernels, load_kernels
from expunge.inference.native.packed_weight import JointProduct, PackedWeight
from expunge.lora.linear import PackedLayer, RowTable

# One set of kernels for all examples: they keep no state.
per_example = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def kernels(kernels_folder: Path) -> Kernels:
    found = load_kernels(kernels_folder)
    assert found is not None
    return found


def numbers(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


@per_example
@given(tokens=st.integers(1, 40), blocks=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_norm_is_that_of_torch(kernels: Kernels, tokens: int, blocks: int, seed: int) -> None:
    x, weight = numbers(seed, tokens, 1, blocks * BLOCK, scale=3.0), numbers(seed + 1, blocks * BLOCK)
    expected = functional.rms_norm(x, weight.shape, weight, 1e-5)
    torch.testing.assert_close(kernels.rms_norm(x, weight, 1e-5), expected)


def test_the_gate_is_that_of_torch_for_every_size_of_number(kernels: Kernels) -> None:
    gate = torch.cat([numbers(0, 4096, scale=20.0), torch.linspace(-200, 200, 4096), torch.zeros(16)])
    up = numbers(1, len(gate))
    expected = functional.silu(gate) * up
    torch.testing.assert_close(kernels.silu_multiply(gate.clone(), up), expected)


@per_example
@given(tokens=st.integers(1, 20), heads=st.integers(1, 5), pairs=st.integers(1, 4), seed=st.integers(0, 99))
def test_rotation_is_that_of_transformers(
    kernels: Kernels, tokens: int, heads: int, pairs: int, seed: int
) -> None:
    width = 2 * pairs * BLOCK
    x, angles = numbers(seed, tokens, heads, width), numbers(seed + 1, tokens, width)
    cos, sin = angles.cos(), angles.sin()
    expected, _ = apply_rotary_pos_emb(x, x, cos, sin)
    kernels.rotate(x, cos, sin)
    torch.testing.assert_close(x, expected)


def test_what_is_not_a_number_stays_so(kernels: Kernels) -> None:
    gate = torch.full((BLOCK,), float("nan"))
    assert kernels.silu_multiply(gate, torch.ones(BLOCK)).isnan().all()
    x = torch.ones(2, BLOCK)
    x[0, 3] = float("nan")
    normed = kernels.rms_norm(x, torch.ones(BLOCK), 1e-5)
    assert normed[0].isnan().all()
    assert normed[1].isfinite().all()


@per_example
@given(
    lengths=st.lists(st.tuples(st.integers(0, 70), st.integers(1, 20)), min_size=1, max_size=4),
    group=st.integers(1, MAX_QUERIES),
    kv_heads=st.integers(1, 3),
    head_blocks=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_attention_is_that_of_torch(
    kernels: Kernels,
    lengths: list[tuple[int, int]],
    group: int,
    kv_heads: int,
    head_blocks: int,
    seed: int,
) -> None:
    """Sequences of (known, new) tokens in scattered blocks, among blocks that hold NaN."""
    width = head_blocks * BLOCK
    size = sum(-(-(known + new) // BLOCK) for known, new in lengths)
    key_pool = torch.full((size, kv_heads, width, BLOCK), float("nan"))
    value_pool = torch.full((size, kv_heads, BLOCK, width), float("nan"))
    free = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    tables = torch.zeros(len(lengths), 8, dtype=torch.int32)
    queries, expected, tiles = [], [], []
    for row, (known, new) in enumerate(lengths):
        length = known + new
        blocks = [free.pop() for _ in range(-(-length // BLOCK))]
        tables[row, : len(blocks)] = torch.tensor(blocks)
        keys, values = (numbers(seed + row + part, length, kv_heads, width) for part in (10, 20))
        places = torch.tensor([blocks[at // BLOCK] * BLOCK + at % BLOCK for at in range(length)])
        kernels.write_kv(keys, values, key_pool, value_pool, places)
        asked = numbers(seed + row, new, kv_heads * group, width)
        first, most = sum(len(other) for other in queries), max(1, MAX_QUERIES // group)
        tiles += [(first + at, min(most, new - at), row, known + at) for at in range(0, new, most)]
        queries.append(asked)
        expected.append(
            functional.scaled_dot_product_attention(
                asked.transpose(0, 1),
                keys.transpose(0, 1).repeat_interleave(group, 0),
                values.transpose(0, 1).repeat_interleave(group, 0),
                attn_mask=torch.ones(new, length, dtype=torch.bool).tril(known),
            ).transpose(0, 1)
        )
    got = kernels.attend(
        torch.cat(queries),
        key_pool,
        value_pool,
        tables,
        torch.tensor(tiles, dtype=torch.int32).T.contiguous(),
        max(sum(pair) for pair in lengths),
        width**-0.5,
    )
    torch.testing.assert_close(got, torch.cat(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
@per_example
@given(
    groups=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 19), st.integers(0, 21)), min_size=1, max_size=4
    ),
    inputs=st.integers(1, 6),
    outputs=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_layers_are_computed_with_the_adapters_of_every_row(
    kernels: Kernels,
    held: torch.dtype,
    groups: list[tuple[int, int, int]],
    inputs: int,
    outputs: list[int],
    seed: int,
) -> None:
    """Layers of one input, every other one with a bias; groups of (rows on the base before, rows, rank)."""
    rows = sum(gap + count for gap, count, _ in groups)
    x = numbers(seed, rows, 1, inputs * BLOCK)
    layers, expected, factors, held_pairs = [], [], [], []
    for index, blocks in enumerate(outputs):
        weight = numbers(seed + 7 * index, blocks * BLOCK, inputs * BLOCK).to(held).float()
        bias = numbers(seed + 9 * index, blocks * BLOCK) if index % 2 == 0 else None
        layers.append(PackedLayer(PackedWeight(weight, held), bias, index))
        out, own, ranges, at = functional.linear(x, weight, bias), [], [], 0
        for number, (gap, count, rank) in enumerate(groups):
            start, at = at + gap, at + gap + count
            a = numbers(seed + 2 + number, rank, inputs * BLOCK)
            b = numbers(seed + 20 + number + index, rank, blocks * BLOCK)
            held_pairs.append((a, b))  # keeps alive what is passed by address
            own.append((a.data_ptr(), b.data_ptr(), rank))
            ranges.append((start, at))
            out[start:at] += x[start:at] @ a.T @ b
        expected.append(out)
        factors.append(own)
    most = max(rank for _, _, rank in groups)
    table = RowTable(torch.tensor(factors), torch.tensor(ranges), most)
    for got, wanted in zip(JointProduct(kernels, layers)(x, table), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
@per_example
@given(
    rows=st.integers(1, 30), inputs=st.integers(1, 90), outputs=st.integers(1, 99), seed=st.integers(0, 99)
)
def test_products_are_those_of_torch(
    kernels: Kernels, held: torch.dtype, rows: int, inputs: int, outputs: int, seed: int
) -> None:
    x, weight = numbers(seed, rows, 1, inputs), numbers(seed + 1, outputs, inputs).to(held).float()
    product = JointProduct(kernels, [PackedLayer(PackedWeight(weight, held), None, 0)])
    (got,) = product(x)
    torch.testing.assert_close(got, functional.linear(x, weight), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(product(x[row : row + 1])[0][0], got[row]) for row in range(rows))


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_products_of_many_rows_go_over_the_weight_more_than_once(kernels: Kernels, held: torch.dtype) -> None:
    x, weight = numbers(0, 401, 1, 32), numbers(1, 1000, 32).to(held).float()
    product = JointProduct(kernels, [PackedLayer(PackedWeight(weight, held), None, 0)])
    (got,) = product(x)
    torch.testing.assert_close(got, functional.linear(x, weight), rtol=1e-4, atol=1e-4)
    assert torch.equal(product(x[400:])[0], got[400:])


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("outputs", [32, 77])
def test_a_packed_weight_still_has_its_rows(held: torch.dtype, outputs: int) -> None:
    weight = numbers(0, outputs, 24)
    packed = PackedWeight(weight, held)
    every = torch.arange(outputs)[:, None]
    assert torch.equal(packed.rows(every)[:, 0], weight.to(held).float())
    assert packed.numbers.dtype is held


def test_a_token_does_not_depend_on_its_neighbours(kernels: Kernels) -> None:
    """The very same bits, alone and among others: what seeds promise."""
    x, a, b = numbers(0, 31, 1, 64), numbers(1, 16, 64), numbers(2, 16, 32)
    weight = PackedWeight(numbers(3, 32, 64), torch.bfloat16)
    product = JointProduct(kernels, [PackedLayer(weight, None, 0)])

    def computed(rows: Tensor) -> Tensor:
        factors = torch.tensor([[(a.data_ptr(), b.data_ptr(), 16)]])
        return product(rows, RowTable(factors, torch.tensor([(0, len(rows))]), 16))[0]

    together = computed(x)
    assert all(torch.equal(computed(x[row : row + 1])[0], together[row]) for row in range(len(x)))


def test_they_are_compiled_once(kernels_folder: Path, tmp_path: Path) -> None:
    assert load_library(tmp_path) is not None
    (built,) = tmp_path.glob("*.so")
    written = built.stat().st_mtime_ns
    assert load_library(tmp_path) is not None
    assert built.stat().st_mtime_ns == written


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_without_a_working_compiler_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert load_library(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_damaged_library_is_told_and_not_used(tmp_path: Path) -> None:
    assert load_library(tmp_path) is not None
    (built,) = tmp_path.glob("*.so")
    damaged = tmp_path / "other"
    damaged.mkdir()
    (damaged / built.name).write_bytes(b"nothing" * 100)
    assert os.listdir(damaged) == [built.name]
    assert load_library(damaged) is None


def test_a_library_that_everybody_could_have_written_is_not_used(
    kernels_folder: Path, tmp_path: Path
) -> None:
    assert load_library(tmp_path) is not None
    tmp_path.chmod(0o777)
    assert load_library(tmp_path) is None
