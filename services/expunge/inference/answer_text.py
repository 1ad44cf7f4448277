"""The text of one answer as its tokens come, to where it ends."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.inference.codec import TextCodec
from expunge.inference.detokeniser import Detokeniser
from expunge.inference.request import FinishReason
from expunge.inference.stops import StopStrings


class AnswerText:
    """Whichever engine chooses the tokens, answers read and end alike.

    Args:
        stop: texts that end the answer; they are not part of it.
        limit: most tokens.

    Attributes:
        tokens: how many there are so far, the one that ends the sequence excluded.
    """

    def __init__(self, codec: TextCodec, stop: Sequence[str], limit: int) -> None:
        self._eos_ids = codec.eos_ids
        self._detokeniser = Detokeniser(codec)
        self._stops = StopStrings(stop)
        self._limit = limit
        self.tokens = 0

    def ends_at(self, token: int) -> bool:
        """Whether `token` ends the sequence, and so is no part of the text."""
        return token in self._eos_ids

    def push(self, token: int) -> tuple[str, FinishReason | None]:
        """The text that `token` lets out, and why the answer ends with it, if it does."""
        self.tokens += 1
        text, stopped = self._stops.push(self._detokeniser.push(token))
        if stopped:
            return text, FinishReason.STOP
        if self.tokens >= self._limit:
            return text + self.rest(), FinishReason.LENGTH
        return text, None

    def rest(self) -> str:
        """What was held back, where the answer ends for another reason."""
        text, stopped = self._stops.push(self._detokeniser.finish())
        return text if stopped else text + self._stops.finish()
