"""Each row runs on its own version, and a row without one never runs."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from expunge.errors import FailedPrecondition, InvalidAdapter, InvalidRequest, ModelError, VersionNotStaged
from expunge.lora.adapter import Pair
from expunge.lora.linear import MultiAdapterLinear
from expunge.lora.shape import ModelShape
from expunge.lora.slots import SlotTable
from lora_cases import ALL_TARGETS, random_adapter

BASE = "base:tiny"


class Served:
    """A tiny model with the base version and three adapters of different ranks and targets resident."""

    def __init__(self, model: PreTrainedModel, shape: ModelShape) -> None:
        self.plain = model
        self.shape = shape
        self.model = AutoModelForCausalLM.from_config(model.config).eval()
        self.model.load_state_dict(model.state_dict())
        self.table = SlotTable.install(self.model, slots=4, max_rank=16, base_digest=shape.base_digest)
        self.table.load_base(BASE)
        self.table.load("a", random_adapter(shape, seed=1))
        self.table.load("b", random_adapter(shape, seed=2, rank=9, targets=ALL_TARGETS))
        self.table.load("c", random_adapter(shape, seed=3, rank=1, targets=("o_proj",)))

    def logits(self, tokens: torch.Tensor, versions: list[str]) -> torch.Tensor:
        with self.table.rows([self.table.slot_of(version) for version in versions]), torch.inference_mode():
            return self.model(tokens).logits


@pytest.fixture
def served(tiny_model_folder: Path, tiny_shape: ModelShape) -> Served:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32).eval()
    return Served(model, tiny_shape)


def tokens(rows: int, length: int = 6) -> torch.Tensor:
    return torch.randint(4, 500, (rows, length), generator=torch.Generator().manual_seed(rows))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(versions=st.lists(st.sampled_from([BASE, "a", "b", "c"]), min_size=1, max_size=9))
def test_rows_of_different_versions_equal_one_by_one(served: Served, versions: list[str]) -> None:
    batch = tokens(len(versions))
    together = served.logits(batch, versions)
    for row, version in enumerate(versions):
        alone = served.logits(batch[row : row + 1], [version])[0]
        assert (together[row] - alone).abs().max() < 1e-4


def test_versions_answer_differently_and_the_base_as_the_plain_model(served: Served) -> None:
    batch = tokens(1).expand(4, -1)
    base, *others = served.logits(batch, [BASE, "a", "b", "c"])
    assert (base - served.plain(batch[:1]).logits[0]).abs().max() < 1e-5
    assert all((other - base).abs().max() > 0.01 for other in others)


@pytest.mark.parametrize("numbers", [[0], [1, 0], [1, 2, 0, 2], [99], [-1]])
def test_row_without_a_version_stops_the_whole_pass(served: Served, numbers: list[int]) -> None:
    with pytest.raises(VersionNotStaged), served.table.rows(torch.tensor(numbers)):
        served.model(tokens(len(numbers)))
    assert not any(slot.uses for slot in served.table._by_number.values())


def test_no_slot_has_the_number_zero(served: Served) -> None:
    assert all(served.table.slot_of(version) > 0 for version in served.table.versions)


def test_model_without_a_plan_refuses_to_run(served: Served) -> None:
    with pytest.raises(VersionNotStaged, match="without versions"):
        served.model(tokens(1))
    with served.table.rows([served.table.slot_of("a")]):
        pass
    with pytest.raises(VersionNotStaged):
        served.model(tokens(1))


def test_plan_for_other_rows_is_refused(served: Served) -> None:
    with served.table.rows([served.table.slot_of("a")] * 2), pytest.raises(VersionNotStaged, match="2 rows"):
        served.model(tokens(3))


def test_plan_of_one_thread_is_not_seen_by_another(served: Served) -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            served.model(tokens(1))
        except VersionNotStaged as error:
            caught.append(error)

    with served.table.rows([served.table.slot_of("a")]):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert len(caught) == 1


def test_inner_plan_gives_way_to_the_outer(served: Served) -> None:
    batch = tokens(1)
    expected = served.logits(batch, ["a"])
    with served.table.rows([served.table.slot_of("a")]), torch.inference_mode():
        served.logits(batch, ["b"])
        assert torch.equal(served.model(batch).logits, expected)


def test_unloaded_version_is_gone_and_its_slot_is_never_reused(
    served: Served, tiny_shape: ModelShape
) -> None:
    stale = served.table.slot_of("a")
    served.table.unload("a")
    assert served.table.versions == (BASE, "b", "c")
    with pytest.raises(VersionNotStaged):
        served.table.slot_of("a")
    with pytest.raises(VersionNotStaged):
        served.table.unload("a")
    assert served.table.load("d", random_adapter(tiny_shape, seed=4)) != stale
    with pytest.raises(VersionNotStaged), served.table.rows([stale]):
        pass


def test_factors_of_an_unloaded_version_are_zeroed_and_freed(served: Served) -> None:
    pairs = served.table._by_version["b"].pairs
    assert pairs is not None
    factors = [factor for pair in pairs if pair for factor in pair]
    served.table.unload("b")
    assert all(not factor.any() for factor in factors)
    references = [weakref.ref(factor) for factor in factors]
    del pairs, factors
    gc.collect()
    assert not any(reference() is not None for reference in references)


def test_version_in_use_is_not_unloaded(served: Served) -> None:
    with served.table.rows([served.table.slot_of("a")]):
        with pytest.raises(FailedPrecondition, match="in use"):
            served.table.unload("a")
        served.table.unload("b")
    served.table.unload("a")


def test_full_table_refuses_another_and_keeps_what_it_has(served: Served, tiny_shape: ModelShape) -> None:
    served.table.load("d", random_adapter(tiny_shape, seed=4))
    with pytest.raises(FailedPrecondition, match="adapter slots are taken"):
        served.table.load("e", random_adapter(tiny_shape, seed=5))
    assert served.table.versions == (BASE, "a", "b", "c", "d")
    served.table.unload("a")
    served.table.load("e", random_adapter(tiny_shape, seed=5))


def test_loading_a_resident_version_again_changes_nothing(served: Served, tiny_shape: ModelShape) -> None:
    batch = tokens(1)
    before = served.logits(batch, ["a"])
    assert served.table.load("a", random_adapter(tiny_shape, seed=77)) == served.table.slot_of("a")
    assert torch.equal(served.logits(batch, ["a"]), before)


def test_adapter_that_does_not_fit_is_refused_and_leaves_no_trace(
    served: Served, tiny_shape: ModelShape
) -> None:
    adapter = random_adapter(tiny_shape, seed=6)
    path = next(iter(adapter.pairs))
    lacking = replace(adapter, pairs={key: pair for key, pair in adapter.pairs.items() if key != path})
    narrow = replace(adapter, pairs={**adapter.pairs, path: Pair(torch.zeros(4, 3), adapter.pairs[path].b)})
    for bad in (lacking, narrow, random_adapter(tiny_shape, rank=17)):
        with pytest.raises(InvalidAdapter):
            served.table.load("bad", bad)
    assert "bad" not in served.table.versions


def test_base_is_chosen_only_by_its_own_id(served: Served, tiny_shape: ModelShape) -> None:
    with pytest.raises(InvalidRequest):
        served.table.load_base("a-version")
    with pytest.raises(InvalidRequest):
        served.table.load("base:other", random_adapter(tiny_shape))


def test_caller_may_change_its_tensors_after_loading(served: Served, tiny_shape: ModelShape) -> None:
    adapter = random_adapter(tiny_shape, seed=8)
    served.table.load("d", adapter)
    batch = tokens(1)
    before = served.logits(batch, ["d"])
    for pair in adapter.pairs.values():
        pair.a.zero_()
        pair.b.zero_()
    assert torch.equal(served.logits(batch, ["d"]), before)


def test_versions_can_be_loaded_while_another_thread_serves(served: Served, tiny_shape: ModelShape) -> None:
    batch = tokens(3)
    expected = served.logits(batch, ["a", BASE, "b"])
    done = threading.Event()
    wrong: list[int] = []

    def serve() -> None:
        while not done.is_set():
            if not torch.equal(served.logits(batch, ["a", BASE, "b"]), expected):
                wrong.append(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for seed in range(20):
            served.table.load(f"v{seed}", random_adapter(tiny_shape, seed=seed))
            served.table.unload(f"v{seed}")
    finally:
        done.set()
        thread.join()
    assert not wrong


def test_cached_decoding_on_mixed_versions_equals_the_full_pass(served: Served) -> None:
    batch, versions = tokens(4, length=7), ["b", BASE, "a", "b"]
    full = served.logits(batch, versions)
    with served.table.rows([served.table.slot_of(version) for version in versions]), torch.inference_mode():
        prefill = served.model(batch[:, :5], use_cache=True)
        one = served.model(batch[:, 5:6], past_key_values=prefill.past_key_values, use_cache=True)
        two = served.model(batch[:, 6:7], past_key_values=one.past_key_values, use_cache=True)
    assert (torch.cat([prefill.logits, one.logits, two.logits], dim=1) - full).abs().max() < 1e-4


def test_gradients_flow_through_served_layers(served: Served) -> None:
    embedded = served.model.get_input_embeddings()(tokens(2)).detach().requires_grad_(True)
    with served.table.rows([served.table.slot_of("a"), served.table.slot_of(BASE)]):
        served.model(inputs_embeds=embedded).logits.sum().backward()
    assert embedded.grad is not None
    assert torch.isfinite(embedded.grad).all()


def test_half_precision_model_serves_adapters_in_its_own_dtype(
    tiny_model_folder: Path, tiny_shape: ModelShape
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.bfloat16).eval()
    table = SlotTable.install(model, slots=2, max_rank=8)
    slot = table.load("a", random_adapter(tiny_shape, seed=1))
    base = table.load_base(BASE)
    with table.rows([slot, base, slot]), torch.inference_mode():
        logits = model(tokens(3)).logits
    assert logits.dtype == torch.bfloat16
    assert torch.isfinite(logits).all()


def test_layers_keep_their_names_and_weights(served: Served) -> None:
    assert served.model.state_dict().keys() == served.plain.state_dict().keys()
    replaced = [module for module in served.model.modules() if isinstance(module, MultiAdapterLinear)]
    assert len(replaced) == len(served.shape.modules) == 14
    assert type(served.model.lm_head) is nn.Linear


def test_table_is_installed_once(served: Served) -> None:
    with pytest.raises(ModelError, match="MultiAdapterLinear"):
        SlotTable.install(served.model, slots=1, max_rank=4)
