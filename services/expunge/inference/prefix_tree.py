"""Token sequences packed into one row, with every common prefix stored once.

Prompts that begin alike (one question asked at many cut points, one chat template around many questions)
form a tree. Its nodes are laid out in one row; a mask lets each node attend to its ancestors only, and its
position is its depth, so that one forward pass gives for every sequence what a pass of its own would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass
class PrefixTree:
    """One packed row.

    Attributes:
        tokens: token id of each node, parents before children.
        positions: depth of each node; the root's is 0.
        parents: index of each node's parent; -1 at a root.
        members: which of the caller's sequences are in this tree.
        paths: for each member, the nodes of its tokens in order.
    """

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)

    def shared_with_last(self, sequence: Sequence[int]) -> int:
        """How many leading tokens of `sequence` the member added last holds already."""
        if not self.paths:
            return 0
        shared = 0
        for node, token in zip(self.paths[-1], sequence, strict=False):
            if self.tokens[node] != token:
                break
            shared += 1
        return shared

    def add(self, member: int, sequence: Sequence[int]) -> None:
        """Append `sequence`, sharing the prefix it has in common with the member added last."""
        shared = self.shared_with_last(sequence)
        path = self.paths[-1][:shared] if self.paths else []
        for depth in range(shared, len(sequence)):
            self.parents.append(path[-1] if path else -1)
            path.append(len(self.tokens))
            self.tokens.append(sequence[depth])
            self.positions.append(depth)
        self.members.append(member)
        self.paths.append(path)

    def visibility(self) -> npt.NDArray[np.bool_]:
        """[nodes, nodes]; row i is true at node i and at its ancestors."""
        visible = np.zeros((len(self), len(self)), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                visible[node] = visible[parent]
            visible[node, node] = True
        return visible


def pack(sequences: Sequence[Sequence[int]], budget: int) -> list[PrefixTree]:
    """Pack `sequences` into trees of at most `budget` nodes each.

    Neighbours in lexicographic order share the longest prefixes, so comparing with the one before is enough.
    A sequence longer than `budget` gets a tree of its own; equal sequences share all their nodes.
    """
    trees: list[PrefixTree] = []
    for member in sorted(range(len(sequences)), key=lambda index: tuple(sequences[index])):
        sequence = sequences[member]
        if not trees or len(trees[-1]) + len(sequence) - trees[-1].shared_with_last(sequence) > budget:
            trees.append(PrefixTree())
        trees[-1].add(member, sequence)
    return trees
