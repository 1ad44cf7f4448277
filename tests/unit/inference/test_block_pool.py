"""Blocks: who holds them, what is kept of prompts, and that no prefix crosses versions."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from expunge.errors import Overloaded
from expunge.inference.block_pool import BLOCK, BlockPool, blocks_for

SIZE = 12


def tokens_of(*pieces: int) -> list[int]:
    """A block of equal tokens for each of `pieces`."""
    return [piece for piece in pieces for _ in range(BLOCK)]


def run(pool: BlockPool, version: str, tokens: list[int]) -> list[int]:
    """What a request does with the pool from beginning to end; returns its blocks."""
    held = pool.match(version, tokens)
    pool.acquire(held)
    blocks = [*held, *pool.allocate(blocks_for(len(tokens)) - len(held))]
    pool.keep(version, tokens, blocks)
    pool.release(blocks)
    return blocks


def test_a_beginning_is_found_again_as_far_as_whole_blocks_agree() -> None:
    pool = BlockPool(SIZE)
    blocks = run(pool, "one", tokens_of(1, 2, 3))
    assert pool.match("one", tokens_of(1, 2, 3)) == blocks
    assert pool.match("one", [*tokens_of(1, 2), *tokens_of(3)[:-1]]) == blocks[:2]
    assert pool.match("one", tokens_of(1, 9, 3)) == blocks[:1]
    assert pool.match("one", tokens_of(2, 3)) == []


def test_nothing_of_one_version_is_found_under_another() -> None:
    pool = BlockPool(SIZE)
    run(pool, "one", tokens_of(1, 2))
    assert pool.match("two", tokens_of(1, 2)) == []


def test_nothing_is_found_after_a_version_left() -> None:
    pool = BlockPool(SIZE)
    run(pool, "one", tokens_of(1, 2))
    run(pool, "two", tokens_of(1))
    pool.drop("one")
    assert pool.match("one", tokens_of(1, 2)) == []
    assert len(pool.match("two", tokens_of(1))) == 1
    assert (pool.kept, pool.available) == (1, SIZE)


def test_what_is_in_use_when_its_version_leaves_is_free_once_released() -> None:
    pool = BlockPool(SIZE)
    blocks = pool.allocate(2)
    pool.keep("one", tokens_of(1, 2), blocks)
    pool.drop("one")
    pool.release(blocks)
    assert (pool.used, pool.kept, pool.available) == (0, 0, SIZE)


def test_the_least_recently_used_goes_first() -> None:
    pool = BlockPool(4)
    run(pool, "one", tokens_of(1, 2))
    run(pool, "one", tokens_of(3, 4))
    run(pool, "one", tokens_of(1, 2))
    pool.release(pool.allocate(2))
    assert len(pool.match("one", tokens_of(1, 2))) == 2
    assert pool.match("one", tokens_of(3, 4)) == []


def test_a_beginning_outlives_what_follows_it() -> None:
    pool = BlockPool(4)
    run(pool, "one", tokens_of(1, 2, 3))
    pool.release(pool.allocate(3))
    assert len(pool.match("one", tokens_of(1, 2, 3))) == 1


def test_equal_blocks_are_kept_once() -> None:
    pool = BlockPool(SIZE)
    first, second = pool.allocate(2), pool.allocate(3)
    pool.keep("one", tokens_of(1, 2), first)
    pool.keep("one", tokens_of(1, 2, 3), second)
    pool.release(first)
    pool.release(second)
    assert pool.match("one", tokens_of(1, 2, 3)) == first
    assert (pool.kept, pool.available) == (2, SIZE)


def test_too_many_blocks_are_refused_with_the_numbers_and_nothing_is_taken() -> None:
    pool = BlockPool(3)
    held = pool.allocate(2)
    with pytest.raises(Overloaded, match="2 blocks of the KV cache are needed and 1 of 3 are free"):
        pool.allocate(2)
    assert (pool.used, pool.available) == (2, 1)
    pool.release(held)
    assert pool.available == 3


def test_without_prefixes_nothing_is_kept() -> None:
    pool = BlockPool(SIZE, keeps_prefixes=False)
    run(pool, "one", tokens_of(1))
    assert pool.match("one", tokens_of(1)) == []
    assert pool.kept == 0


class Pooling(RuleBasedStateMachine):
    """Requests of two versions come, go and are put out in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(SIZE)
        self.running: list[tuple[str, list[int], list[int]]] = []
        self.content: dict[int, tuple[str, tuple[int, ...]]] = {}  # block: what was written to it last

    @rule(version=st.sampled_from(["one", "two"]), pieces=st.lists(st.integers(0, 1), min_size=1, max_size=4))
    def enter(self, version: str, pieces: list[int]) -> None:
        tokens = tokens_of(*pieces)
        held = self.pool.match(version, tokens)
        for index, block in enumerate(held):
            assert self.content[block] == (version, tuple(tokens[: (index + 1) * BLOCK]))
        self.pool.acquire(held)
        missing = blocks_for(len(tokens)) - len(held)
        if missing > self.pool.available:
            self.pool.release(held)
            return
        blocks = [*held, *self.pool.allocate(missing)]
        for index, block in enumerate(blocks):
            self.content[block] = (version, tuple(tokens[: (index + 1) * BLOCK]))
        self.running.append((version, tokens, blocks))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), is_kept=st.booleans())
    def leave(self, data: st.DataObject, is_kept: bool) -> None:
        version, tokens, blocks = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        if is_kept:
            self.pool.keep(version, tokens, blocks)
        self.pool.release(blocks)

    @rule(version=st.sampled_from(["one", "two"]))
    def drop(self, version: str) -> None:
        if all(running != version for running, _, _ in self.running):
            self.pool.drop(version)

    @invariant()
    def every_block_is_somewhere_once(self) -> None:
        held = {block for _, _, blocks in self.running for block in blocks}
        assert self.pool.used == len(held)
        assert self.pool.used + self.pool.available == SIZE


TestPooling = Pooling.TestCase
