"""Prompts sent as token ids: the text they stand for, since guards read text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

from expunge.errors import InvalidRequest, NotFound, Violation
from expunge.gateway.base_model import tokenizer_key
from expunge.gateway.upstream import BlobUpstream
from expunge.models.manifest import digest_of_base

_NAMED = 10  # ids that an error names


class TokenReader:
    """Decodes with the served model's own tokenizer, which it fetches when the first such prompt comes.

    Args:
        base_version: id of the base version that is served.
    """

    def __init__(self, blobs: BlobUpstream, base_version: Callable[[], str]) -> None:
        self._blobs = blobs
        self._base_version = base_version
        self._tokenizers: dict[str, Tokenizer] = {}

    async def text(self, ids: Sequence[int]) -> str:
        """What the model reads when it is given `ids`, special tokens included.

        Raises:
            InvalidRequest: an id stands for nothing, or the model can't be asked by token ids.
        """
        return self._decoded(await self._tokenizer(), ids)

    async def readings(self, ids: Sequence[int]) -> tuple[str, str]:
        """What guards are to read of `ids`: the text, and the text without special tokens; raises as `text`.

        Special tokens must not hide a name that they stand in the middle of.
        """
        tokenizer = await self._tokenizer()
        text = self._decoded(tokenizer, ids)
        return text, tokenizer.decode(list(ids), skip_special_tokens=True)

    def _decoded(self, tokenizer: Tokenizer, ids: Sequence[int]) -> str:
        unknown = [place for place, token in enumerate(ids) if tokenizer.id_to_token(token) is None]
        if unknown:
            raise InvalidRequest.of_all(
                [
                    Violation(f"prompt_tokens[{place}]", f"{ids[place]} is no token of this model")
                    for place in unknown[:_NAMED]
                ]
            )
        return tokenizer.decode(list(ids), skip_special_tokens=False)

    async def _tokenizer(self) -> Tokenizer:
        version = self._base_version()
        if version not in self._tokenizers:
            try:
                data = await asyncio.to_thread(self._blobs.get_bytes, tokenizer_key(digest_of_base(version)))
            except NotFound as error:
                raise InvalidRequest.of(
                    "prompt_tokens", "the served model has no tokenizer.json to read them by; send text"
                ) from error
            self._tokenizers = {version: await asyncio.to_thread(Tokenizer.from_buffer, data)}
        return self._tokenizers[version]
