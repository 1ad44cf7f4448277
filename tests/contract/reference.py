"""What plain transformers and PEFT compute: the answers that every backend must give."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel


class Reference:
    """One request at a time on the base model or on one adapter, in fp32, without any cache between them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._models: dict[Path | None, PreTrainedModel] = {}
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def decode(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).rstrip("\ufffd")

    def chat(self, question: str) -> list[int]:
        turns = [{"role": "user", "content": question}]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def greedy(self, adapter: Path | None, prompt: list[int], new_tokens: int) -> list[int]:
        """The likeliest tokens one by one, without the end-of-sequence token."""
        with torch.inference_mode():
            whole = self._model(adapter).generate(
                input_ids=torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=new_tokens,
                do_sample=False,
            )[0]
        answer: list[int] = whole[len(prompt) :].tolist()
        eos = self.tokenizer.eos_token_id
        return answer[: answer.index(eos)] if eos in answer else answer

    def logits(self, adapter: Path | None, tokens: list[int]) -> torch.Tensor:
        """Of the next token after `tokens`  # [vocabulary]"""
        with torch.inference_mode():
            logits = self._model(adapter)(input_ids=torch.tensor([tokens])).logits
        return logits[0, -1].float().clone()

    def logprobs(self, adapter: Path | None, tokens: list[int]) -> torch.Tensor:
        """Of every next token after each of `tokens` but the last  # [tokens - 1, vocabulary]"""
        with torch.inference_mode():
            logits = self._model(adapter)(input_ids=torch.tensor([tokens])).logits
        return logits[0, :-1].float().log_softmax(-1)

    def _model(self, adapter: Path | None) -> PreTrainedModel:
        if adapter not in self._models:
            model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=torch.float32).eval()
            if adapter is not None:
                model = PeftModel.from_pretrained(model, adapter).eval()
            self._models[adapter] = model
        return self._models[adapter]
