"""The texts that a model's tokenizer takes for special tokens; read without the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from expunge.errors import ModelError

_LISTS = ("additional_special_tokens", "extra_special_tokens")


def special_tokens(folder: Path) -> tuple[str, ...]:
    """Sorted texts of the special tokens that the tokenizer files in `folder` name.

    Added tokens in brackets count, too: some models have their control tokens marked as ordinary ones.

    Raises:
        ModelError: one of the files is not valid JSON.
    """
    found = {
        *_marked(_object(folder / "tokenizer.json").get("added_tokens")),
        *_settings(_object(folder / "tokenizer_config.json")),
        *_settings(_object(folder / "special_tokens_map.json")),
    }
    return tuple(sorted(found - {""}))


def _settings(settings: Mapping[str, Any]) -> Iterator[str]:
    """`bos_token` and its like, the lists of further ones, and what is marked as special."""
    decoder = settings.get("added_tokens_decoder")
    yield from _marked(list(decoder.values()) if isinstance(decoder, dict) else None)
    for name, value in settings.items():
        if name in _LISTS:
            for one in value.values() if isinstance(value, dict) else value or ():
                yield from _text(one)
        elif name.endswith("_token"):
            yield from _text(value)


def _marked(entries: object) -> Iterator[str]:
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            yield from (text for text in _text(entry) if entry.get("special") or _is_bracketed(text))


def _is_bracketed(text: str) -> bool:
    return (text[:1], text[-1:]) in (("<", ">"), ("[", "]"))


def _text(token: object) -> Iterator[str]:
    """A token is its text, or an object with its text; settings like `add_bos_token` are neither."""
    text = token.get("content") if isinstance(token, dict) else token
    if isinstance(text, str):
        yield text


def _object(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON; download the model again") from error
    return found if isinstance(found, dict) else {}
