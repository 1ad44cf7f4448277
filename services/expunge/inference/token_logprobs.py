"""How likely tokens were, as the model alone has it: before temperature, penalties and bias."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from expunge.inference.codec import TextCodec
from expunge.inference.request import TokenLogprob

Row = NDArray[np.float32]  # logits [vocabulary]


class TokenLogprobs:
    """Tells of tokens, each with the `count` likeliest ones at its place."""

    def __init__(self, count: int, codec: TextCodec) -> None:
        self._count = count
        self._codec = codec

    def first(self, token: int) -> TokenLogprob:
        """Of a prompt's first token, before which there is nothing that could make it likely."""
        return TokenLogprob(token, self._codec.token_text(token), None)

    def of(self, logits: Tensor, tokens: Sequence[int]) -> list[TokenLogprob]:
        """One entry for each of `tokens`, from the `logits` before each, [tokens, vocabulary]."""
        return [self._one(row, token) for row, token in zip(rows_of(logits), tokens, strict=True)]

    def _one(self, logits: Row, token: int) -> TokenLogprob:
        total = _log_sum_exp(logits)
        likeliest = tuple(
            (other, self._codec.token_text(other), float(logits[other]) - total)
            for other in _likeliest(logits, self._count)
        )
        return TokenLogprob(token, self._codec.token_text(token), float(logits[token]) - total, likeliest)


class PromptLogprobs:
    """An entry for each token of a prompt, from logits that come in pieces.

    Attributes:
        read: leading tokens after which the logits are known.
    """

    def __init__(self, teller: TokenLogprobs, tokens: Sequence[int]) -> None:
        self._teller = teller
        self._tokens = tokens
        self.read = 0
        self._entries = [teller.first(tokens[0])]

    @property
    def is_complete(self) -> bool:
        """Whether all logits have been read."""
        return self.read == len(self._tokens)

    def take(self, logits: Tensor) -> None:
        """Read the logits after the next tokens, [tokens, vocabulary]; what follows the last is no prompt."""
        following = self._tokens[self.read + 1 : self.read + 1 + len(logits)]
        self.read += len(logits)
        self._entries += self._teller.of(logits[: len(following)], following)

    def hand_over(self) -> tuple[TokenLogprob, ...]:
        """All entries, once; nothing before they are complete."""
        if not self.is_complete:
            return ()
        entries, self._entries = self._entries, []
        return tuple(entries)


def rows_of(logits: Tensor) -> Iterator[Row]:
    """Each row of `logits` [rows, vocabulary]; all of a long prompt's in fp32 would be much at once."""
    return (row.detach().float().cpu().numpy() for row in logits)


def logprob_of(logits: Row, token: int) -> float:
    """The natural log-probability of `token`."""
    return float(logits[token]) - _log_sum_exp(logits)


def _log_sum_exp(logits: Row) -> float:
    highest = logits.max()
    return float(highest) + float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))


def _likeliest(logits: Row, count: int) -> list[int]:
    """The `count` tokens of highest `logits`, best first; of equals, those of lower ids come first."""
    count = min(count, len(logits))
    if count == 0:
        return []
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    ids = np.flatnonzero(logits >= least)
    return [int(token) for token in ids[np.argsort(-logits[ids], kind="stable")][:count]]
