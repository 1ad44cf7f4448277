"""Writes a tiny Llama folder as a GGUF file, the way llama.cpp's converter lays it out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import load_file

_BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TOP_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}


def write_tiny_gguf(path: Path, model_folder: Path) -> Path:
    """Write the model and tokenizer of `model_folder` to `path` in float32 and return it."""
    config = json.loads((model_folder / "config.json").read_text())
    writer = GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, model_folder, config)
    for name, values in load_file(model_folder / "model.safetensors").items():
        writer.add_tensor(*_in_gguf(name, values, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _in_gguf(name: str, values: np.ndarray, config: dict[str, int]) -> tuple[str, np.ndarray]:
    module = name.removesuffix(".weight")
    if module in _TOP_NAMES:
        return f"{_TOP_NAMES[module]}.weight", values
    _, _, layer, rest = module.split(".", 3)
    heads = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}.get(rest)
    if heads:  # rotary halves are interleaved in GGUF
        shaped = values.reshape(config[heads], 2, values.shape[0] // config[heads] // 2, values.shape[1])
        values = np.ascontiguousarray(shaped.swapaxes(1, 2).reshape(values.shape))
    return f"blk.{layer}.{_BLOCK_NAMES[rest]}.weight", values


def _add_tokenizer(writer: GGUFWriter, model_folder: Path, config: dict[str, int]) -> None:
    tokenizer = json.loads((model_folder / "tokenizer.json").read_text())
    specials = {entry["content"] for entry in tokenizer["added_tokens"]}
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in specials else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_chat_template((model_folder / "chat_template.jinja").read_text())
