"""Prompts of an exact number of tokens: seeded random words that are one token each."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from tokenizers import Tokenizer

from expunge.errors import ModelError

_WORD = re.compile(r"[A-Za-z]{2,14}")
_LEAST_WORDS = 50
_TRIES = 20


class PromptWriter:
    """Writes prompts for one tokenizer; no two share their beginning but by chance.

    Args:
        folder: of the model; its tokenizer.json is read, without transformers.
        seed: of the words.

    Raises:
        ModelError: no tokenizer.json, or too few words are one token.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise ModelError(f"{folder} has no tokenizer.json; name the folder of the served model")
        self._tokenizer = Tokenizer.from_file(str(file))
        self._random = random.Random(seed)
        self._words = self._single_token_words()
        if len(self._words) < _LEAST_WORDS:
            raise ModelError(f"the tokenizer in {folder} knows only {len(self._words)} words as one token")

    def write(self, tokens: int) -> str:
        """A prompt that this tokenizer reads as exactly `tokens` tokens.

        Raises:
            ModelError: the tokenizer joins words, so that no such prompt was found.
        """
        for _ in range(_TRIES):
            text = "".join(self._random.choice(self._words) for _ in range(tokens))
            if self.count(text) == tokens:
                return text
        raise ModelError(f"no prompt of exactly {tokens} tokens was found; this tokenizer joins words")

    def count(self, text: str) -> int:
        """Tokens of `text`, with what the tokenizer puts around it."""
        return len(self._tokenizer.encode(text).ids)

    def _single_token_words(self) -> list[str]:
        ids = sorted(self._tokenizer.get_vocab(with_added_tokens=False).values())
        texts = [f" {text.strip()}" for text in self._tokenizer.decode_batch([[one] for one in ids])]
        words = sorted({text for text in texts if _WORD.fullmatch(text[1:])})
        encoded = self._tokenizer.encode_batch(words, add_special_tokens=False)
        return [word for word, one in zip(words, encoded, strict=True) if len(one.ids) == 1]


def end_tokens(folder: Path) -> tuple[int, ...]:
    """Token ids that end an answer of the model in `folder`, by its config and generation config."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        file = folder / name
        ids = json.loads(file.read_text()).get("eos_token_id") if file.is_file() else None
        if ids is not None:
            found.update(ids if isinstance(ids, list) else [ids])
    return tuple(sorted(found))
