"""Token ids to text as they come."""

from __future__ import annotations

from expunge.inference.codec import TextCodec

REPLACEMENT = "\ufffd"  # what an incomplete or invalid byte sequence decodes to
MAX_HELD = 8  # a character has at most four bytes; what is held longer is invalid, not incomplete


class Detokeniser:
    """Gives each token's text once it is certain; never a part of a character.

    The tokens since the last emission are decoded together with those before them, because some tokenizers
    write a token differently at the start of a text.
    """

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._ids: list[int] = []
        self._anchor = 0  # decoding starts here
        self._emitted = 0  # tokens up to here have been emitted

    def push(self, token: int) -> str:
        """The text that `token` completes; "" while a character is incomplete."""
        self._ids.append(token)
        text = self._pending()
        if not text or (text.endswith(REPLACEMENT) and len(self._ids) - self._emitted < MAX_HELD):
            return ""
        self._anchor, self._emitted = self._emitted, len(self._ids)
        return text

    def finish(self) -> str:
        """The rest, without an incomplete character at its end."""
        text = self._pending().rstrip(REPLACEMENT)
        self._anchor = self._emitted = len(self._ids)
        return text

    def _pending(self) -> str:
        known = self._codec.decode(self._ids[self._anchor : self._emitted])
        return self._codec.decode(self._ids[self._anchor :])[len(known) :]
