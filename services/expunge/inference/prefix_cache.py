"""Keys and values of prompt beginnings, kept for later prompts of the same version that begin alike.

For each version a radix tree over token ids: a segment's place in its tree is the tokens before it, so
there is no hash that could collide, and nothing leads from one version's tree to another's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from expunge.inference.kv import KvScratch, KvSlices


@dataclass(eq=False)
class _Segment:
    """Tokens that follow its parent's, with what every layer made of them."""

    version: str
    tokens: tuple[int, ...]
    kv: KvSlices
    parent: _Segment | None
    children: dict[int, _Segment] = field(default_factory=dict)  # by first token


class PrefixCache:
    """Belongs to one thread. What was used least recently goes first.

    Args:
        max_bytes: keys and values held at most; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._roots: dict[str, _Segment] = {}
        # Oldest first. A use renews a segment before its ancestors, so the oldest never has children.
        self._recency: OrderedDict[_Segment, None] = OrderedDict()

    def length(self, version: str, tokens: Sequence[int]) -> int:
        """How many leading `tokens` are held for `version`."""
        return sum(shared for _, shared in self._walk(version, tokens))

    def read(self, version: str, tokens: Sequence[int], start: int, end: int) -> list[KvSlices]:
        """Keys and values of the positions [start, end) of `tokens`, piece after piece; marks them as used.

        Raises:
            LookupError: not all of them are held.
        """
        found, at, pieces = self._walk(version, tokens[:end]), 0, []
        for segment, shared in found:
            first = max(start - at, 0)
            if first < shared:
                pieces.append([layer[:, :, first:shared] for layer in segment.kv])
            at += shared
        if at < end:
            raise LookupError(f"{at} of {end} tokens are held")
        self._renew([segment for segment, _ in found])
        return pieces

    def insert(self, version: str, tokens: Sequence[int], path: Tensor, scratch: KvScratch) -> None:
        """Keep the keys and values of `tokens`, which the nodes `path` [tokens] of `scratch` hold."""
        found = self._walk(version, tokens)
        held = sum(shared for _, shared in found)
        if held < len(tokens) and scratch.bytes_per_token * (len(tokens) - held) <= self.max_bytes:
            parent = self._branch(version, found)
            segment = _Segment(version, tuple(tokens[held:]), scratch.take(path[held:]), parent)
            parent.children[tokens[held]] = segment
            self._recency[segment] = None
            self.bytes += _bytes(segment)
            found.append((segment, len(segment.tokens)))
        self._renew([segment for segment, _ in found])
        while self.bytes > self.max_bytes:
            self._evict()

    def drop(self, version: str) -> None:
        """Forget everything computed under `version`."""
        root = self._roots.pop(version, None)
        leaving = list(root.children.values()) if root else []
        while leaving:
            segment = leaving.pop()
            leaving += segment.children.values()
            self._forget(segment)

    def _walk(self, version: str, tokens: Sequence[int]) -> list[tuple[_Segment, int]]:
        """The segments along `tokens`, and how many tokens of each agree; only the last may agree in part."""
        found: list[tuple[_Segment, int]] = []
        segment, at = self._roots.get(version), 0
        while segment and at < len(tokens):
            segment = segment.children.get(tokens[at])
            if segment:
                shared = _agreement(segment.tokens, tokens, at)
                found.append((segment, shared))
                at += shared
                if shared < len(segment.tokens):
                    break
        return found

    def _branch(self, version: str, found: list[tuple[_Segment, int]]) -> _Segment:
        """Where new tokens continue: the last of `found`, cut in two where it agrees in part only."""
        if not found:
            return self._roots.setdefault(version, _Segment(version, (), [], None))
        segment, shared = found[-1]
        if shared < len(segment.tokens):
            found[-1] = (self._cut(segment, shared), shared)
        return found[-1][0]

    def _cut(self, segment: _Segment, at: int) -> _Segment:
        """Make the first `at` tokens a segment of their own, above the rest; returns it."""
        assert segment.parent is not None
        upper = _Segment(segment.version, segment.tokens[:at], _copied(segment.kv, 0, at), segment.parent)
        segment.parent.children[segment.tokens[0]] = upper
        segment.kv = _copied(segment.kv, at, len(segment.tokens))
        segment.tokens, segment.parent = segment.tokens[at:], upper
        upper.children[segment.tokens[0]] = segment
        self._recency[upper] = None
        return upper

    def _renew(self, segments: Sequence[_Segment]) -> None:
        for segment in reversed(segments):
            self._recency.move_to_end(segment)

    def _evict(self) -> None:
        oldest = next(iter(self._recency))
        assert oldest.parent is not None
        del oldest.parent.children[oldest.tokens[0]]
        self._forget(oldest)

    def _forget(self, segment: _Segment) -> None:
        del self._recency[segment]
        self.bytes -= _bytes(segment)


def _agreement(segment: tuple[int, ...], tokens: Sequence[int], at: int) -> int:
    """How many tokens of `segment` are those of `tokens` from `at` on."""
    if segment == tuple(tokens[at : at + len(segment)]):
        return len(segment)
    pairs = zip(segment, tokens[at:], strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), len(tokens) - at)


def _copied(kv: KvSlices, start: int, end: int) -> KvSlices:
    """Copies, since a view would keep all of the memory."""
    return [layer[:, :, start:end].clone() for layer in kv]


def _bytes(segment: _Segment) -> int:
    return sum(layer.nbytes for layer in segment.kv)
