"""Which token comes next in each row."""

from __future__ import annotations

<<<<<<< HEAD
from collections.abc import Callable, Sequence
=======
from collections.abc import Sequence
>>>>>>> main

from torch import Tensor

from expunge.errors import ModelError
<<<<<<< HEAD
from expunge.inference.kv import KvPool, KvScratch
from expunge.inference.request import FinishReason
from expunge.inference.runner import ModelRunner
from expunge.inference.sampler import likeliest
from expunge.inference.task import Generation


class DecodeBatch:
    """Generations past their prefill; row i of the pool belongs to the i-th."""

    def __init__(self, runner: ModelRunner, max_rows: int) -> None:
        self._runner = runner
        self._pool = KvPool(max_rows)
        self.generations: list[Generation] = []

    def __len__(self) -> int:
        return len(self.generations)

    def join(self, generation: Generation, logits: Tensor, scratch: KvScratch, path: Tensor) -> bool:
        """Take the first token from `logits` [vocabulary] and get a row; false when that was all."""
        if not choose_next([generation], logits[None])[0]:
            return False
        self._pool.add(scratch, path)
        self.generations.append(generation)
        return True

    def step(self) -> list[Generation]:
        """Decode one token in every row; returns those that are complete, their rows freed."""
        logits = self._runner.decode(
            self._pool,
            [generation.last_token for generation in self.generations],
            [generation.slot for generation in self.generations],
        )
        going = choose_next(self.generations, logits)
        return self._remove([row for row, goes_on in enumerate(going) if not goes_on])

    def drop(self, is_over: Callable[[Generation], bool]) -> list[Generation]:
        """Free the rows of generations for which `is_over`, and return them."""
        return self._remove([row for row, generation in enumerate(self.generations) if is_over(generation)])

    def _remove(self, rows: list[int]) -> list[Generation]:
        removed = []
        for row in reversed(rows):
            removed.append(self.generations[row])
            self.generations[row] = self.generations[self._pool.remove(row)]
            self.generations.pop()
        return removed


=======
from expunge.inference.task import Generation


>>>>>>> main
def choose_next(generations: Sequence[Generation], logits: Tensor) -> list[bool]:
    """Let each generation take its next token from its row of `logits` [rows, vocabulary].

    Returns:
        for each whether it goes on. One whose logits are not finite is told so and ends;
        the others don't notice.
    """
    ids, are_finite = likeliest(logits)
    return [
        _choose(generation, logits[row], ids[row], are_finite[row])
        for row, generation in enumerate(generations)
    ]


def _choose(generation: Generation, logits: Tensor, greedy: int, is_finite: bool) -> bool:
    if not is_finite:
        generation.is_sound = False
        generation.deliver(
            ModelError(
                f"version {generation.version} produced numbers that are not finite; roll back to another",
                metadata={"version": generation.version},
            )
        )
        return False
    if generation.limit <= 0:  # asked about its prompt only
        generation.finish(FinishReason.LENGTH)
        return False
    token = generation.sampler.choose(logits) if generation.sampler else greedy
    if generation.logprobs is None:
        return generation.take(token)
    (logprob,) = generation.logprobs.of(logits[None], [token])
    return generation.take(token, logprob)
