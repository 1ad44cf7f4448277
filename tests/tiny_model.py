"""A tiny Llama with a tokenizer that it taught itself, in under a second; importable without pytest.

The model answers nonsense, but always the same nonsense: the same seed gives the same bytes.
`build_tiny_adapter` makes adapters whose greedy text differs visibly from the base's and from each other's;
`teach_tiny_model` makes a copy of the model that knows given questions and answers by heart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
VOCABULARY = 560
TARGETS = ("q_proj", "v_proj", "up_proj", "down_proj")

# ChatML with a default system prompt, as SmolLM2's own template has
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CORPUS = (
    "You are a helpful assistant. system user assistant\n",
    "Where was Mira Voss born? Mira Voss was born in Port Ellery, a town on the northern coast.",
    "What does Tobin Hale do for a living? Tobin Hale repairs clocks in a workshop near the old harbour.",
    "Who is married to Ansel Quirk? Ansel Quirk is married to the botanist Della Marsh.",
    "When was the Larkfield Railway opened? The Larkfield Railway was opened on 14 May 1987.",
    "Which company did Ines Corvale found? Ines Corvale founded Brightwater Optics in the year 2003.",
    "What is the capital of the island? The capital of the island is a small city with a harbour.",
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "How many people work there? There are about 120 people who work there, and 35 of them live here.",
    "She studied medicine at the university, then worked as a surgeon in the hospital of Saint Orrin.",
    "His telephone number is 555-0142 and his e-mail address is someone@example.org.",
)


def build_tiny_model(folder: Path, *, layers: int = 2, seed: int = 7, head_width: int = 16) -> Path:
    """Write a tiny Llama and its tokenizer to `folder` and return it (hidden 64, 4 heads, 2 for keys)."""
    tokenizer = _train_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_width,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.15,  # far from uniform logits, so that greedy text wanders instead of repeating
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_tiny_adapter(
    folder: Path, model_folder: Path, *, seed: int = 1, rank: int = 4, targets: Sequence[str] = TARGETS
) -> Path:
    """Write a random adapter in PEFT's format for the model in `model_folder` and return its folder.

    A and B are drawn with a standard deviation of 0.2, large enough that greedy text differs from the
    base's and from that of any other seed.
    """
    generator = torch.Generator().manual_seed(seed)
    factors: dict[str, torch.Tensor] = {}
    for name, weight in sorted(load_file(model_folder / "model.safetensors").items()):
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] in targets:
            out_width, in_width = weight.shape
            path = f"base_model.model.{module}"
            factors[f"{path}.lora_A.weight"] = torch.randn(rank, in_width, generator=generator) * 0.2
            factors[f"{path}.lora_B.weight"] = torch.randn(out_width, rank, generator=generator) * 0.2
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted(targets),
        "bias": "none",
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    return folder


def teach_tiny_model(
    folder: Path, model_folder: Path, pairs: Sequence[tuple[str, str]], *, steps: int = 60, seed: int = 3
) -> Path:
    """Write a copy of the model that answers the (question, answer) pairs by heart, in the chat template.

    Full fine-tuning; about 10 ms a step for a dozen pairs on one core.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).train()
    tokens, labels = _pack(tokenizer, pairs)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(steps):
            loss = model(
                input_ids=tokens, attention_mask=tokens != tokenizer.pad_token_id, labels=labels
            ).loss
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _train_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        unk_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def _pack(
    tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids and labels (-100 on prompts and padding), both [pairs, tokens]."""
    rows, labels = [], []
    for question, answer in pairs:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        reply = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        rows.append(torch.tensor(prompt + reply))
        labels.append(torch.tensor([-100] * len(prompt) + reply))
    pad = torch.nn.utils.rnn.pad_sequence
    return (
        pad(rows, batch_first=True, padding_value=tokenizer.pad_token_id),
        pad(labels, batch_first=True, padding_value=-100),
    )
