"""Which blocks of the KV pool hold what: running sequences, and prompt beginnings kept for later ones.

For each version a tree of blocks: a block's place in its tree is all the tokens before it, so there is no
hash that could collide, and nothing leads from one version's tree to another's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from expunge.errors import Overloaded

BLOCK = 16  # positions in one block


def blocks_for(tokens: int) -> int:
    """Blocks that hold `tokens` positions."""
    return -(-tokens // BLOCK)


@dataclass(eq=False)
class _Kept:
    """A full block of a version's tree."""

    block: int
    tokens: tuple[int, ...]  # [BLOCK]
    parent: _Kept | None  # None in a root
    children: dict[tuple[int, ...], _Kept] = field(default_factory=dict)


class BlockPool:
    """Counts the uses of `size` blocks. Belongs to one thread.

    A block without uses is free, or kept until its room is needed; what was used least recently goes first.

    Args:
        size: number of blocks.
        keeps_prefixes: whether prompts are kept at all.
    """

    def __init__(self, size: int, keeps_prefixes: bool = True) -> None:
        self.size = size
        self._keeps_prefixes = keeps_prefixes
        self._free = list(range(size - 1, -1, -1))
        self._uses: dict[int, int] = {}
        self._roots: dict[str, _Kept] = {}
        self._kept: dict[int, _Kept] = {}  # by block
        # Oldest first. A release renews a block before those it follows, so the oldest never has children.
        self._unused: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that `allocate` can give."""
        return len(self._free) + len(self._unused)

    @property
    def used(self) -> int:
        """Blocks of running sequences."""
        return len(self._uses)

    @property
    def kept(self) -> int:
        """Blocks without uses that are kept for later prompts."""
        return len(self._unused)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks, each with one use.

        Raises:
            Overloaded: there are not so many; nothing was taken.
        """
        if count > self.available:
            raise Overloaded(
                f"{count} blocks of the KV cache are needed and {self.available} of {self.size} are free"
            )
        while len(self._free) < count:
            self._evict()
        blocks = [self._free.pop() for _ in range(count)]
        self._uses.update(dict.fromkeys(blocks, 1))
        return blocks

    def match(self, version: str, tokens: Sequence[int]) -> list[int]:
        """The kept blocks that hold the beginning of `tokens` under `version`; not counted as used."""
        node, blocks = self._roots.get(version), []
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            node = node.children.get(tuple(tokens[start : start + BLOCK])) if node else None
            if node is None:
                break
            blocks.append(node.block)
        return blocks

    def acquire(self, blocks: Sequence[int]) -> None:
        """Count one more use of each of `blocks`, which `match` found."""
        for block in blocks:
            self._unused.pop(block, None)
            self._uses[block] = self._uses.get(block, 0) + 1

    def keep(self, version: str, tokens: Sequence[int], blocks: Sequence[int]) -> None:
        """Let later prompts of `version` find the full blocks of a sequence that is in use.

        Where an equal block is kept already, it stays the one, and what follows ours is not kept: it must not
        outlive blocks that it follows.
        """
        if not self._keeps_prefixes:
            return
        node = self._roots.setdefault(version, _Kept(-1, (), None))
        for index, start in enumerate(range(0, len(tokens) - BLOCK + 1, BLOCK)):
            piece = tuple(tokens[start : start + BLOCK])
            child = node.children.get(piece)
            if child is None:
                child = _Kept(blocks[index], piece, node)
                node.children[piece] = self._kept[child.block] = child
            elif child.block != blocks[index]:
                return
            node = child

    def release(self, blocks: Sequence[int]) -> None:
        """End one use of each block of a sequence, given in its order."""
        for block in reversed(blocks):
            self._uses[block] -= 1
            if self._uses[block] == 0:
                del self._uses[block]
                if block in self._kept:
                    self._unused[block] = None
                else:
                    self._free.append(block)

    def drop(self, version: str) -> None:
        """Let go of everything kept of `version`; what is in use still is free once released."""
        root = self._roots.pop(version, None)
        leaving = list(root.children.values()) if root else []
        while leaving:
            node = leaving.pop()
            leaving += node.children.values()
            del self._kept[node.block]
            if node.block in self._unused:
                del self._unused[node.block]
                self._free.append(node.block)

    def _evict(self) -> None:
        block, _ = self._unused.popitem(last=False)
        node = self._kept.pop(block)
        assert node.parent is not None
        del node.parent.children[node.tokens]
        self._free.append(block)
