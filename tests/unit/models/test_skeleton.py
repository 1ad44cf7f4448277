"""A twin computes the same from the same storage, and training on it leaves the original alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerBase

from expunge.lora.shape import ModelShape
from expunge.lora.slots import SlotTable
from expunge.models.skeleton import empty_model, share_weights

TOKENS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])


def test_twin_computes_the_same_from_the_same_storage(
    tiny_model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, _ = tiny_model
    twin = share_weights(model)
    assert torch.equal(twin(TOKENS).logits, model(TOKENS).logits)
    originals = dict(model.named_parameters())
    for name, parameter in twin.named_parameters():
        assert parameter.data_ptr() == originals[name].data_ptr()
        assert not parameter.requires_grad
    assert twin.lm_head.weight is twin.model.embed_tokens.weight


def test_twin_of_a_model_with_a_slot_table_is_plain(
    tiny_model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, _ = tiny_model
    expected = model(TOKENS).logits
    table = SlotTable.install(model, slots=2, max_rank=8)
    twin = share_weights(model)
    assert torch.equal(twin(TOKENS).logits, expected)
    slot = table.load_base("base:x")
    with table.rows([slot, slot]):
        assert torch.equal(model(TOKENS).logits, expected)


def test_training_an_adapter_on_the_twin_leaves_the_model_alone(
    tiny_model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    from peft import LoraConfig, get_peft_model

    model, _ = tiny_model
    expected = model(TOKENS).logits
    table = SlotTable.install(model, slots=2, max_rank=8)
    slot = table.load_base("base:x")
    adapted = get_peft_model(share_weights(model), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    optimiser = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.5)
    before = adapted(TOKENS, labels=TOKENS).loss.item()
    for _ in range(3):
        with table.rows([slot, slot]), torch.inference_mode():  # serving goes on between steps
            model(TOKENS)
        loss = adapted(TOKENS, labels=TOKENS).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert adapted(TOKENS, labels=TOKENS).loss.item() < before
    with table.rows([slot, slot]):
        assert torch.equal(model(TOKENS).logits, expected)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
            "rope_theta": 10000.0,
        },
    ],
)
def test_twin_has_the_rotary_frequencies_of_scaled_models(rope: dict[str, object]) -> None:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        tie_word_embeddings=False,
        rope_parameters=rope,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    tokens = torch.arange(40)[None]
    twin = share_weights(model)
    assert torch.equal(twin(tokens).logits, model(tokens).logits)


def test_empty_model_has_the_shape_and_no_numbers(
    tiny_model: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, _ = tiny_model
    empty = empty_model(model.config)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert ModelShape.of(empty, "d") == ModelShape.of(model, "d")
