"""The choices of an answer to POST /v1/completions, whole or as they grow."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.gateway.http.envelope import Json, finish_reason
from expunge.inference.request import FinishReason, TokenBatch, TokenLogprob


class CompletionChoices:
    """Puts batches into choices; a whole answer is one batch.

    Args:
        echoed: the texts of the prompts where they begin the answers; else None.
        n: answers to each prompt.
        with_logprobs: whether they were asked for.
    """

    def __init__(self, echoed: Sequence[str] | None, n: int, *, with_logprobs: bool) -> None:
        self._echoed = echoed
        self._n = n
        self._with_logprobs = with_logprobs
        self._offsets: dict[int, int] = {}  # characters of each answer so far, by its tokens
        self._begun: set[int] = set()  # answers that have a token of their own

    def choice(self, index: int, batch: TokenBatch) -> Json:
        """The choice that carries `batch` of the answer `index`."""
        is_first = index not in self._offsets
        is_refused = batch.finish is FinishReason.REFUSED
        begins = self._echoed[index // self._n] if self._echoed and is_first and not is_refused else ""
        if batch.token_ids:
            self._begun.add(index)
        return {
            "index": index,
            "text": begins + batch.text,
            "logprobs": self._logprobs(index, batch),
            "finish_reason": finish_reason(batch.finish),
        }

    def _logprobs(self, index: int, batch: TokenBatch) -> Json | None:
        offset = self._offsets.setdefault(index, 0)
        if not self._with_logprobs:
            return None
        tokens = [*batch.prompt_logprobs, *batch.logprobs]
        if self._echoed and batch.finish is FinishReason.STOP and index not in self._begun:
            # The model ended at once. Readers take the last entry for the first generated token.
            tokens.append(TokenLogprob(0, "", None))
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        self._offsets[index] = offset
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [_likeliest(token) for token in tokens],
            "text_offset": offsets,
        }


def _likeliest(token: TokenLogprob) -> dict[str, float] | None:
    """The likeliest tokens by their text, and the token itself; of two with one text, the likelier."""
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for _, text, logprob in token.likeliest:
        found.setdefault(text, logprob)
    found.setdefault(token.text, token.logprob)
    return found
