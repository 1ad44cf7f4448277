"""The random numbers of one answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import numpy as np
from numpy.random import Philox
from numpy.typing import NDArray

_WORD = 2**64
_NUMBERS = 4  # that one value of the counter gives
_BLOCK = 64  # drawn together: setting up a generator takes longer than they do
_STEP = np.uint64(0x9E3779B97F4A7C15)  # the constants of SplitMix64
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def _fresh() -> int:
    return secrets.randbits(64)


class Noise:
    """Random numbers for each place of an answer and each token that may come there.

    A number is a pure function of seed, choice, place and token id: it depends neither on what else is drawn
    nor on how often. A place has 64 bits from Philox 4x64, a counter-based generator, with (seed, choice) as
    the key (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", 2011); from these on SplitMix64
    counts through the token ids (Steele and others, "Fast splittable pseudorandom number generators", 2014).

    Args:
        seed: 64 bits, signed or not; None draws one from `entropy`.
        choice: which of several answers with one seed.
        entropy: 64 random bits.
    """

    def __init__(self, seed: int | None, choice: int = 0, entropy: Callable[[], int] = _fresh) -> None:
        seed = entropy() if seed is None else seed
        self._key = seed % _WORD + choice % _WORD * _WORD
        self._block = -1
        self._bits = np.zeros(0, dtype=np.uint64)

    def exponentials(self, place: int, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """For each of `tokens` a number above 0 from the exponential distribution of mean 1, [tokens]."""
        bits = self._of(place) + (tokens.astype(np.uint64) + np.uint64(1)) * _STEP
        bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
        bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
        bits = bits ^ (bits >> np.uint64(31))
        uniform: NDArray[np.float64] = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53  # within (0, 1)
        return -np.log(uniform)

    def _of(self, place: int) -> NDArray[np.uint64]:
        """The 64 bits of `place`, counted from 0, [1]."""
        block, index = divmod(place, _BLOCK)
        if block != self._block:
            generator = Philox(key=self._key, counter=block * (_BLOCK // _NUMBERS))
            self._block, self._bits = block, generator.random_raw(_BLOCK)
        return self._bits[index : index + 1]
