"""Random numbers depend on seed, choice and position, and on nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from expunge.inference.noise import Noise

SEEDS = st.integers(-(2**63), 2**64 - 1)
POSITIONS = st.integers(0, 2**32)


@given(SEEDS, st.integers(0, 7), st.lists(POSITIONS, min_size=1, max_size=20))
def test_a_number_does_not_depend_on_those_drawn_before(seed: int, choice: int, positions: list[int]) -> None:
    noise = Noise(seed, choice)
    drawn = [noise.uniform(position) for position in positions]
    assert drawn == [Noise(seed, choice).uniform(position) for position in positions]
    assert all(0 <= number < 1 for number in drawn)


def test_seeds_choices_and_positions_have_numbers_of_their_own() -> None:
    drawn = [
        Noise(seed, choice).uniform(position)
        for seed in (0, 1, 2**63, 2**64 - 1)
        for choice in range(4)
        for position in range(50)
    ]
    assert len(set(drawn)) == len(drawn)


def test_the_numbers_are_even() -> None:
    noise = Noise(3)
    drawn = sorted(noise.uniform(position) for position in range(2000))
    furthest = max(abs(number - rank / 2000) for rank, number in enumerate(drawn))
    assert furthest < 1.95 / 2000**0.5  # Kolmogorov-Smirnov at .001


def test_without_a_seed_entropy_is_asked() -> None:
    assert Noise(None, entropy=lambda: 17).uniform(4) == Noise(17).uniform(4)
    assert Noise(None).uniform(0) != Noise(None).uniform(0)
