"""Random numbers depend on seed, choice and position, and on nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from expunge.inference.noise import Noise

SEEDS = st.integers(-(2**63), 2**64 - 1)
PLACES = st.integers(0, 2**32)
TOKENS = st.lists(st.integers(-1, 2**20), min_size=1, max_size=20).map(np.array)
SOME = np.arange(50)


@settings(deadline=None)
@given(SEEDS, st.integers(0, 7), st.lists(PLACES, min_size=1, max_size=20), TOKENS)
def test_a_number_does_not_depend_on_what_else_is_drawn(
    seed: int, choice: int, places: list[int], tokens: NDArray[np.int64]
) -> None:
    noise = Noise(seed, choice)
    for place in places:
        drawn = noise.exponentials(place, tokens)
        assert (drawn > 0).all()
        assert drawn.tolist() == [
            float(Noise(seed, choice).exponentials(place, np.array([token]))[0]) for token in tokens
        ]


def test_seeds_choices_places_and_tokens_have_numbers_of_their_own() -> None:
    drawn = [
        number
        for seed in (0, 1, 2**63, 2**64 - 1)
        for choice in range(4)
        for place in range(130)
        for number in Noise(seed, choice).exponentials(place, SOME).tolist()
    ]
    assert len(set(drawn)) == len(drawn)


def furthest_from_exponential(numbers: NDArray[np.float64]) -> float:
    """Kolmogorov's distance, times the root of the count: above 1.95 once in a thousand."""
    reached = 1 - np.exp(-np.sort(numbers))
    return float(np.abs(reached - np.arange(len(numbers)) / len(numbers)).max() * len(numbers) ** 0.5)


def test_the_numbers_are_exponential_over_tokens_and_over_places() -> None:
    noise = Noise(3)
    assert furthest_from_exponential(noise.exponentials(0, np.arange(50_000))) < 1.95
    over_places = [float(noise.exponentials(place, np.array([7]))[0]) for place in range(2000)]
    assert furthest_from_exponential(np.array(over_places)) < 1.95


def test_without_a_seed_entropy_is_asked() -> None:
    one, other = Noise(None, entropy=lambda: 17), Noise(17)
    assert one.exponentials(4, SOME).tolist() == other.exponentials(4, SOME).tolist()
    assert not set(Noise(None).exponentials(0, SOME)) & set(Noise(None).exponentials(0, SOME))
