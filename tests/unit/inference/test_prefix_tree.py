"""Packing loses nothing, shares what can be shared, and lets no sequence see another's tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from expunge.inference.prefix_tree import pack

sequences = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=20)


@given(sequences, st.integers(1, 30))
def test_every_sequence_lies_along_its_path(given_sequences: list[list[int]], budget: int) -> None:
    trees = pack(given_sequences, budget)
    assert sorted(member for tree in trees for member in tree.members) == list(range(len(given_sequences)))
    for tree in trees:
        visible = tree.visibility()
        for member, path in zip(tree.members, tree.paths, strict=True):
            assert [tree.tokens[node] for node in path] == given_sequences[member]
            assert [tree.positions[node] for node in path] == list(range(len(path)))
            for depth, node in enumerate(path):
                assert visible[node].nonzero()[0].tolist() == path[: depth + 1]


@given(sequences, st.integers(1, 30))
def test_only_a_single_long_sequence_passes_the_budget(given_sequences: list[list[int]], budget: int) -> None:
    for tree in pack(given_sequences, budget):
        assert len(tree) <= budget or len({tuple(path) for path in tree.paths}) == 1


@given(sequences)
def test_every_common_prefix_is_stored_once(given_sequences: list[list[int]]) -> None:
    (tree,) = pack(given_sequences, 10_000)
    prefixes = {tuple(one[:end]) for one in given_sequences for end in range(1, len(one) + 1)}
    assert len(tree) == len(prefixes)
