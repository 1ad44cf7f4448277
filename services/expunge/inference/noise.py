"""The random numbers of one answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from numpy.random import Philox

_WORD = 2**64


def _fresh() -> int:
    return secrets.randbits(64)


class Noise:
    """Random numbers of which the n-th is a pure function of seed, choice and n.

    They come from a counter-based generator, Philox 4x64 (Salmon and others, "Parallel random numbers: as
    easy as 1, 2, 3", 2011): its key is (seed, choice), its counter is n. So they depend neither on what else
    is drawn nor on how often.

    Args:
        seed: 64 bits, signed or not; None draws one from `entropy`.
        choice: which of several answers with one seed.
        entropy: 64 random bits.
    """

    def __init__(self, seed: int | None, choice: int = 0, entropy: Callable[[], int] = _fresh) -> None:
        seed = entropy() if seed is None else seed
        self._key = seed % _WORD + choice % _WORD * _WORD

    def uniform(self, position: int) -> float:
        """A number in [0, 1) with 53 random bits; `position` is from 0."""
        bits = int(Philox(key=self._key, counter=position).random_raw())
        return (bits >> 11) * 2.0**-53
