"""Tokens of several sequences side by side."""

from __future__ import annotations

from expunge.inference.block_pool import BLOCK
from expunge.inference.flat_batch import FlatBatch, Piece


def batch() -> FlatBatch:
    decoding = Piece([7], BLOCK + 1, [4, 2], slot=3, wanted=range(1))
    prompt = Piece([1, 2, 3, 4, 5], BLOCK - 2, [9, 8], slot=5, wanted=range(4, 5))
    return FlatBatch.of([decoding, prompt])


def test_every_token_has_its_position_slot_and_place() -> None:
    flat = batch()
    assert flat.tokens.tolist() == [7, 1, 2, 3, 4, 5]
    assert flat.positions.tolist() == [BLOCK + 1, *range(BLOCK - 2, BLOCK + 3)]
    assert flat.slots == [3, 5, 5, 5, 5, 5]
    ends_of_first, starts_of_second = [9 * BLOCK + BLOCK - 2, 9 * BLOCK + BLOCK - 1], [8 * BLOCK]
    assert flat.places.tolist()[:4] == [2 * BLOCK + 1, *ends_of_first, *starts_of_second]
    assert flat.longest == BLOCK + 3


def test_wanted_tokens_are_counted_through_the_batch() -> None:
    assert batch().wanted.tolist() == [0, 5]


def test_tiles_cut_pieces_without_mixing_them() -> None:
    starts, tokens, rows, positions = batch().tiles(2).tolist()
    assert rows == [0, 1, 1, 1]
    assert tokens == [1, 2, 2, 1]
    assert starts == [0, 1, 3, 5]
    assert positions == [BLOCK + 1, BLOCK - 2, BLOCK, BLOCK + 2]
