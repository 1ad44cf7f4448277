"""One request on its way through the engine: which tokens are in the KV pool already, and where."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.inference.block_pool import BLOCK
from expunge.inference.flat_batch import Piece
from expunge.inference.task import Task


class Row:
    """A task that has blocks.

    Attributes:
        blocks: of its tokens, in order.
        computed: leading tokens whose keys and values are in `blocks`.
    """

    def __init__(self, task: Task, blocks: list[int], computed: int) -> None:
        self.task = task
        self.blocks = blocks
        self.computed = computed
        self._prompt = [*task.tokens, *task.written]  # what was written before it gave way is prompt now
        self._resumed = len(task.written)

    @property
    def remaining(self) -> int:
        """Prompt tokens that are to be computed before it can decode."""
        return max(0, len(self._prompt) - self.computed)

    @property
    def decodes(self) -> bool:
        """Whether its prompt is through."""
        return self.computed >= len(self._prompt)

    @property
    def tokens(self) -> list[int]:
        """All tokens so far, the newest, which is not computed yet, included."""
        return [*self._prompt, *self.task.written[self._resumed :]]

    @property
    def needs_block(self) -> bool:
        """Whether its next token has no place."""
        return self.computed == len(self.blocks) * BLOCK

    @property
    def shareable(self) -> int:
        """Leading tokens whose logits nobody wants: only they may come from earlier prompts."""
        return len(self._prompt) - 1 if self._resumed else self.task.wanted.start

    def begins_with(self, tokens: Sequence[int]) -> bool:
        """Whether its prompt does."""
        return self._prompt[: len(tokens)] == list(tokens)

    def piece(self, count: int) -> Piece:
        """Its next `count` prompt tokens, or fewer; one that decodes has a single token."""
        if self.decodes:
            return Piece(self.task.written[-1:], self.computed, self.blocks, self.task.slot, range(1))
        tokens = self._prompt[self.computed : self.computed + count]
        first = min(max(0, self.shareable - self.computed), len(tokens))
        return Piece(tokens, self.computed, self.blocks, self.task.slot, range(first, len(tokens)))
