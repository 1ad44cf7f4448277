"""Which token comes next in each row."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from expunge.errors import ModelError
from expunge.inference.task import Generation


def choose_next(generations: Sequence[Generation], logits: Tensor) -> list[bool]:
    """Let each generation take its next token from its row of `logits` [rows, vocabulary].

    Returns:
        for each whether it goes on. One whose logits are not finite is told so and ends;
        the others don't notice.
    """
    best, argmax = logits.max(-1)
    finite, greedy = best.isfinite().tolist(), argmax.tolist()
    return [
        _choose(generation, logits[row], greedy[row], finite[row])
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
    return generation.take(generation.sampler.choose(logits) if generation.sampler else greedy)
