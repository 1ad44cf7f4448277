"""Which token comes next in each row."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from expunge.errors import ModelError
from expunge.inference.request import FinishReason
from expunge.inference.sampler import likeliest
from expunge.inference.task import Generation


def choose_next(generations: Sequence[Generation], logits: Tensor) -> list[bool | Exception]:
    """Let each generation take its next token from its row of `logits` [rows, vocabulary].

    Returns:
        for each whether it goes on, or what its own choice broke with. One whose logits are not finite is
        told so and ends; the others don't notice.
    """
    ids, are_finite = likeliest(logits)
    return [
        _tried(generation, logits[row], ids[row], are_finite[row])
        for row, generation in enumerate(generations)
    ]


def _tried(generation: Generation, logits: Tensor, greedy: int, is_finite: bool) -> bool | Exception:
    try:
        return _choose(generation, logits, greedy, is_finite)
    except Exception as error:  # whatever it is, the other rows go on
        return error


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
