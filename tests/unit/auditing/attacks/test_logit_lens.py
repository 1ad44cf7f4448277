"""The lens reads every layer; the last one says what the model says."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

import expunge.auditing.attacks.logit_lens as lens_module
from expunge.auditing.attacks.logit_lens import LensItem, LensReading, logit_lens
from expunge.auditing.attacks.victim import Victim
from expunge.errors import InvalidRequest, ModelError
from expunge.lora.adapter import Adapter
from expunge.lora.shape import ModelShape
from expunge.models.load import LoadedModel
from expunge.unlearning.sequences import ChatEncoder
from lora_cases import random_adapter

from ..known_facts import FACTS


@pytest.fixture
def items(taught: LoadedModel) -> list[LensItem]:
    """FACTS with every answer token secret, the second but for its first three."""
    encoder = ChatEncoder(taught.tokenizer)
    pairs = [encoder.chat(fact.question, fact.answer) for fact in FACTS]
    return [
        LensItem(pair.prompt, pair.answer, range(start, len(pair.answer)))
        for pair, start in zip(pairs, (0, 3), strict=True)
    ]


def _last_layer_only(loaded: LoadedModel) -> Adapter:
    shape = ModelShape.of(loaded.model, loaded.digest)
    modules = {path: widths for path, widths in shape.modules.items() if ".layers.1." in path}
    return random_adapter(ModelShape(modules, shape.base_digest), spread=1.0)


def test_the_last_layer_is_the_models_own_distribution(victim: Victim, items: list[LensItem]) -> None:
    reading = logit_lens(victim, items)
    assert victim.adapter is not None
    with victim.readapted(victim.adapter) as model:
        forced = model.teacher_forced([(item.prompt, item.answer) for item in items], victim.version)
    said = torch.cat([forced[0].logprobs, forced[1].logprobs[3:]]).exp()
    torch.testing.assert_close(reading.probability[-1], said, rtol=1e-3, atol=1e-5)
    best = torch.cat([forced[0].argmax, forced[1].argmax[3:]])
    labels = torch.tensor([item.answer[place] for item in items for place in item.secret])
    assert torch.equal(reading.rank[-1] == 1, best == labels)


def test_a_fact_known_by_heart_is_readable_at_the_end_and_not_where_nobody_knew(
    taught: LoadedModel, innocent: LoadedModel, items: list[LensItem]
) -> None:
    knows, never = (logit_lens(Victim(loaded, loaded.version), items) for loaded in (taught, innocent))
    assert knows.readable[-1].tolist() == [1.0, 1.0]
    assert never.readable[-1].max() < 0.5
    assert knows.mean[-1].min() > 0.5 > never.mean[-1].max()


def test_a_change_of_the_last_layer_leaves_the_layers_below_as_they_were(
    taught: LoadedModel, items: list[LensItem]
) -> None:
    before = logit_lens(Victim(taught, taught.version), items)
    after = logit_lens(Victim(taught, "late", _last_layer_only(taught)), items)
    assert torch.equal(after.probability[0], before.probability[0])
    assert torch.equal(after.rank[0], before.rank[0])
    assert after.mean[-1].max() < 0.1 < before.mean[-1].min()


def test_batches_make_no_difference(
    victim: Victim, items: list[LensItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = logit_lens(victim, items)
    monkeypatch.setattr(lens_module, "BATCH_TOKENS", 1)
    apart = logit_lens(victim, items)
    torch.testing.assert_close(apart.probability, together.probability, rtol=1e-3, atol=1e-6)
    assert torch.equal(apart.facts, together.facts)


def test_readings_are_summed_up_by_fact() -> None:
    reading = LensReading(
        torch.tensor([[0.5, 0.125, 0.3], [0.9, 0.4, 0.2]]),
        torch.tensor([[1, 4, 2], [1, 1, 2]]),
        torch.tensor([0, 0, 1]),
    )
    assert torch.equal(reading.first, torch.tensor([[0.5, 0.3], [0.9, 0.2]]))
    assert reading.mean[:, 0].tolist() == pytest.approx([0.25, 0.6])
    assert reading.readable.tolist() == [[0.5, 0.0], [1.0, 0.0]]


def test_an_item_without_secret_places_is_refused(victim: Victim) -> None:
    with pytest.raises(InvalidRequest, match=r"items\[1\]"):
        logit_lens(victim, [LensItem([5], [6], [0]), LensItem([5], [6], [1])])


def test_a_decoder_without_known_layers_is_refused(
    tiny_model: tuple[PreTrainedModel, object], victim: Victim
) -> None:
    decoder = tiny_model[0].model
    decoder.blocks, decoder.layers = decoder.layers, None
    with pytest.raises(ModelError, match="layer"):
        lens_module._read(tiny_model[0], victim, [LensItem([5], [6], [0])])
