"""Which replica was sent which beginnings of prompts, so that the next one that begins alike goes there, too.

A prompt is known by its version and its leading blocks. The key of a block depends on all before it, so equal
keys mean equal beginnings (but for a collision, which would cost time and nothing else: a replica looks its
own prefix cache up by tokens).
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Collection, Sequence

from expunge.inference.request import GenerationRequest, ScoreRequest

BLOCK_BYTES = 64  # about 16 tokens of English; a token id takes 4
MAX_BLOCKS = 64  # of one prompt; what comes later tells nothing more about where to go
MAX_ENTRIES = 65_536  # about 10 MB
HOLDERS = 4  # replicas remembered for one beginning

_MAX_BYTES = BLOCK_BYTES * MAX_BLOCKS


def prefix_keys(request: GenerationRequest | ScoreRequest) -> tuple[int, ...]:
    """A key for each whole block that the prompt begins with, shortest beginning first.

    The keys are good in this process only.
    """
    text = _beginning(request)
    key, keys = hash((request.version, type(request).__name__)), []
    for end in range(BLOCK_BYTES, len(text) + 1, BLOCK_BYTES):
        key = hash((key, text[end - BLOCK_BYTES : end]))
        keys.append(key)
    return tuple(keys)


def _beginning(request: GenerationRequest | ScoreRequest) -> bytes:
    """At most `_MAX_BYTES` of what is put before the model; no character takes less than a byte."""
    if isinstance(request, ScoreRequest):
        text = request.context[:_MAX_BYTES]
    elif request.prompt_tokens:
        return array("i", request.prompt_tokens[: _MAX_BYTES // 4]).tobytes()
    elif request.prompt is not None:
        text = request.prompt[:_MAX_BYTES]
    else:
        text = ""
        for message in request.messages:
            text += f"\0{message.role}\0{message.content[:_MAX_BYTES]}"
            if len(text) >= _MAX_BYTES:
                break
    return text.encode("utf-8", "surrogatepass")[:_MAX_BYTES]


class PrefixMap:
    """Bounded memory of who was sent what; what was used least recently goes first."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._holders: OrderedDict[int, tuple[str, ...]] = OrderedDict()  # most recent holder first

    def __len__(self) -> int:
        return len(self._holders)

    def note(self, keys: Sequence[int], replica: str) -> None:
        """Remember that `replica` was sent a prompt that begins with `keys`."""
        for key in reversed(keys):  # a shorter beginning is renewed last, so it stays longer
            others = (name for name in self._holders.get(key, ()) if name != replica)
            self._holders[key] = (replica, *others)[:HOLDERS]
            self._holders.move_to_end(key)
        while len(self._holders) > self._max_entries:
            self._holders.popitem(last=False)

    def matches(self, keys: Sequence[int]) -> dict[str, int]:
        """How many leading blocks each replica was sent before, for those that were sent any."""
        found: dict[str, int] = {}
        for length, key in enumerate(keys, start=1):
            holders = self._holders.get(key)
            if holders is None:
                break
            for name in holders:
                found[name] = length
        return found

    def keep(self, replicas: Collection[str]) -> None:
        """Forget every replica but these."""
        for key, holders in list(self._holders.items()):
            left = tuple(name for name in holders if name in replicas)
            if left:
                self._holders[key] = left
            else:
                del self._holders[key]
