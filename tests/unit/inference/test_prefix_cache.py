"""The prefix cache gives back what was computed for the same version and tokens, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from expunge.inference.kv import KvScratch
from expunge.inference.prefix_cache import PrefixCache

LAYERS, HEADS, DIM = 2, 1, 2
TOKEN_BYTES = 2 * LAYERS * HEADS * DIM * 4

prompts = st.lists(st.integers(0, 2), min_size=1, max_size=9)
inserts = st.lists(st.tuples(st.sampled_from("ab"), prompts), min_size=1, max_size=12)


def numbers_of(version: str, tokens: Sequence[int]) -> list[float]:
    """For each position a number that no other version or beginning has."""
    return [float(hash((version, tuple(tokens[: at + 1]))) % 2**20) for at in range(len(tokens))]


def scratch_of(version: str, tokens: Sequence[int]) -> KvScratch:
    scratch = KvScratch(len(tokens))
    layer = torch.tensor(numbers_of(version, tokens))[None, None, :, None].expand(1, HEADS, -1, DIM)
    scratch.append([layer + index for index in range(2 * LAYERS)])
    return scratch


def insert(cache: PrefixCache, version: str, tokens: Sequence[int]) -> None:
    cache.insert(version, tokens, torch.arange(len(tokens)), scratch_of(version, tokens))


def read(cache: PrefixCache, version: str, tokens: Sequence[int], start: int = 0) -> list[Tensor]:
    """Per layer, [tokens held from `start` on]."""
    pieces = cache.read(version, tokens, start, cache.length(version, tokens))
    return [torch.cat([piece[layer][0, 0, :, 0] for piece in pieces]) for layer in range(2 * LAYERS)]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = list(zip(one, other, strict=False))
    return next((index for index, (a, b) in enumerate(pairs) if a != b), len(pairs))


@given(inserts, prompts)
def test_what_is_held_is_the_longest_beginning_seen_under_that_version(
    seen: list[tuple[str, list[int]]], asked: list[int]
) -> None:
    cache = PrefixCache(2**20)
    for version, tokens in seen:
        insert(cache, version, tokens)
    for version in "abc":
        longest = max((common(tokens, asked) for own, tokens in seen if own == version), default=0)
        assert cache.length(version, asked) == longest
        for start in range(longest):
            for index, layer in enumerate(read(cache, version, asked, start)):
                expected = [number + index for number in numbers_of(version, asked)[start:longest]]
                assert layer.tolist() == expected


@given(inserts, st.integers(1, 12))
def test_the_budget_holds_and_what_stays_is_whole(seen: list[tuple[str, list[int]]], tokens: int) -> None:
    cache = PrefixCache(tokens * TOKEN_BYTES)
    for version, prompt in seen:
        insert(cache, version, prompt)
        assert 0 <= cache.bytes <= cache.max_bytes
        if len(prompt) <= tokens:
            assert cache.length(version, prompt) == len(prompt)
        assert read_all(cache, seen)
    for version in "ab":
        cache.drop(version)
    assert cache.bytes == 0


def read_all(cache: PrefixCache, seen: list[tuple[str, list[int]]]) -> bool:
    for version, prompt in seen:
        if length := cache.length(version, prompt):
            assert read(cache, version, prompt)[0].tolist() == numbers_of(version, prompt)[:length]
    return True


def test_the_least_recently_used_goes_first() -> None:
    cache = PrefixCache(6 * TOKEN_BYTES)
    insert(cache, "a", [1, 1, 1])
    insert(cache, "a", [2, 2, 2])
    read(cache, "a", [1, 1, 1])
    insert(cache, "a", [3, 3])
    assert [cache.length("a", [first] * 3) for first in (1, 2, 3)] == [3, 0, 2]


def test_a_common_beginning_outlives_what_follows_it() -> None:
    cache = PrefixCache(6 * TOKEN_BYTES)
    insert(cache, "a", [1, 1, 2, 2])
    insert(cache, "a", [1, 1, 3, 3])
    insert(cache, "a", [1, 1, 4, 4])
    assert cache.length("a", [1, 1, 2, 2]) == 2
    assert cache.length("a", [1, 1, 4, 4]) == 4


def test_a_dropped_version_leaves_nothing_and_the_others_stay() -> None:
    cache = PrefixCache(2**20)
    insert(cache, "a", [1, 2, 3])
    insert(cache, "b", [1, 2])
    cache.drop("a")
    assert cache.length("a", [1, 2, 3]) == 0
    assert cache.length("b", [1, 2, 3]) == 2
    assert cache.bytes == 2 * TOKEN_BYTES
    with pytest.raises(LookupError):
        cache.read("a", [1, 2, 3], 0, 1)


def test_nothing_is_kept_without_memory_and_a_prompt_above_it_pushes_nothing_out() -> None:
    none, small = PrefixCache(0), PrefixCache(2 * TOKEN_BYTES)
    insert(none, "a", [1])
    insert(small, "a", [1, 2])
    insert(small, "a", [3, 4, 5])
    assert (none.length("a", [1]), none.bytes) == (0, 0)
    assert (small.length("a", [1, 2]), small.length("a", [3])) == (2, 0)
