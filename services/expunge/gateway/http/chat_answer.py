"""The choices of an answer to POST /v1/chat/completions, whole or as they grow."""

from __future__ import annotations

from expunge.gateway.http.envelope import Json, finish_reason
from expunge.inference.request import TokenBatch, TokenLogprob

_UNKNOWN = "\ufffd"  # stands for bytes that are no whole character


class ChatChoices:
    """Puts batches into choices.

    Args:
        with_logprobs: whether they were asked for.
    """

    def __init__(self, *, with_logprobs: bool) -> None:
        self._with_logprobs = with_logprobs
        self._begun: set[int] = set()

    def whole(self, index: int, batch: TokenBatch) -> Json:
        """The choice that is the whole answer `index`."""
        message = {"role": "assistant", "content": batch.text, "refusal": None}
        return {"index": index, "message": message, **self._ending(batch)}

    def delta(self, index: int, batch: TokenBatch) -> Json:
        """The choice that carries `batch` of the answer `index`."""
        delta: Json = {"content": batch.text} if batch.text or batch.finish is None else {}
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", "content": batch.text}
        return {"index": index, "delta": delta, **self._ending(batch)}

    def _ending(self, batch: TokenBatch) -> Json:
        logprobs = None
        if self._with_logprobs:
            logprobs = {"content": [_told(token) for token in batch.logprobs], "refusal": None}
        return {"logprobs": logprobs, "finish_reason": finish_reason(batch.finish)}


def _told(token: TokenLogprob) -> Json:
    likeliest = [_entry(text, logprob) for _, text, logprob in token.likeliest]
    return {**_entry(token.text, token.logprob), "top_logprobs": likeliest}


def _entry(text: str, logprob: float | None) -> Json:
    return {"token": text, "logprob": logprob, "bytes": None if _UNKNOWN in text else list(text.encode())}
