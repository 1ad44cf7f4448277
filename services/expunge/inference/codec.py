"""Text to token ids and back, with the model's own tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expunge.errors import InvalidRequest
from expunge.inference.request import Message


class TextCodec:
    """Encodes prompts and conversations and decodes answers; safe to use from several threads."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.eos_ids = _eos_ids(model, tokenizer)
        self.eos_id = cast(int, tokenizer.eos_token_id)  # `load_model` refuses a tokenizer without one
        start = cast("int | None", tokenizer.bos_token_id)
        self.start_id = self.eos_id if start is None else start  # stands before a text that has no context
        self.vocabulary = cast(int, model.get_input_embeddings().num_embeddings)  # token ids are below it
        self._token_texts: dict[int, str] = {}
        # The first call settles truncation and padding in the shared tokenizer; later calls only read it.
        self._before = self.encode("warm", special=False)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text`; `special` adds what the tokenizer puts around a text (often nothing)."""
        return cast(list[int], self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`."""
        return cast(
            str,
            self._tokenizer.decode(
                list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False
            ),
        )

    def token_text(self, token: int) -> str:
        """The text of one token within a text, special ones included; some tokenizers cut the first."""
        text = self._token_texts.get(token)
        if text is None:
            before = self.decode(self._before, skip_special=False)
            text = self.decode([*self._before, token], skip_special=False)[len(before) :]
            self._token_texts[token] = text
        return text

    def chat_ids(self, messages: Sequence[Message], beginning: str = "") -> list[int]:
        """Token ids of a conversation through the chat template, up to where the assistant answers.

        Args:
            beginning: of the assistant's answer; what follows the template is tokenised on its own.

        Raises:
            InvalidRequest: the model has no chat template, or the template refuses these messages.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        if not getattr(self._tokenizer, "chat_template", None):
            raise InvalidRequest.of("messages", "this model has no chat template; send `prompt` instead")
        try:
            text = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates raise what they like
            raise InvalidRequest.of("messages", f"the chat template refuses them: {error}") from error
        asked = self.encode(cast(str, text), special=False)
        return asked + self.encode(beginning, special=False) if beginning else asked


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    named: list[int | list[int] | None] = [
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config, "eos_token_id", None),
        cast("int | None", tokenizer.eos_token_id),
    ]
    found: set[int] = set()
    for ids in named:
        if ids is not None:
            found.update(ids if isinstance(ids, list) else [ids])
    return frozenset(found)
