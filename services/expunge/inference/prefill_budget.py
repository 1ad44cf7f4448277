"""How many prompt tokens one step may take on, so that running streams hardly notice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_TOKENS = 8  # fewer would cost more by the weights that are read than by what is computed
STEP = 8
LOOK_AGAIN = 32  # steps after which what one costs without prompts is measured anew
_WEIGHT = 0.2  # of a new observation
_FIRST_MOST = 4 * LEAST_TOKENS  # more only step by step: what was learnt from a few tokens may be far off


@dataclass
class _Quiet:
    """What a step without prompts took, and in which step that was measured last."""

    seconds: float
    step: int


class PrefillBudget:
    """Learns what a step costs without prompts, and what a prompt's token adds.

    While prompts wait, no step would be without one: so every now and then one is kept free of them. What is
    known of other numbers of rows won't do: the difference would be taken for the price of the prompt's
    tokens, which would be given ever fewer and so look ever dearer.

    Args:
        idle_tokens: prompt tokens of a step in which nothing else runs; also the most of any step.
        stretch: how many times as long as one without prompts a step may take; longer where more prompts
            wait than rows decode: then prompts get a share of the time as large as theirs of the requests.
    """

    def __init__(self, idle_tokens: int, stretch: float) -> None:
        self._idle = idle_tokens
        self._stretch = stretch
        self._quiet: dict[int, _Quiet] = {}  # by size class of the rows that decode
        # What prompts took and how many tokens they had, fading: single steps differ by more than a few
        # tokens cost, and a mean of their ratios would follow that.
        self._prompts_s = 0.0
        self._prompt_tokens = 0.0
        self._most = _FIRST_MOST
        self._step = 0

    def tokens(self, rows: int, prompts: int = 1) -> int:
        """Prompt tokens for a step in which `rows` rows decode and `prompts` prompts are not through.

        0: this step is to show what one costs without prompts.
        """
        if rows == 0:
            return self._idle
        quiet = self._quiet.get(_size_class(rows))
        if quiet is None or self._step - quiet.step > LOOK_AGAIN:
            return 0
        least = min(LEAST_TOKENS, self._idle)
        if self._prompts_s <= 0:
            return least
        stretch = max(self._stretch, 1 + prompts / rows)
        affordable = int((stretch - 1) * quiet.seconds * self._prompt_tokens / self._prompts_s)
        return max(least, min(self._idle, self._most, affordable // STEP * STEP))

    def observe(self, rows: int, prompt_tokens: int, seconds: float) -> None:
        """A step with `rows` rows that decoded and `prompt_tokens` of prompts took `seconds`."""
        self._step += 1
        quiet = self._quiet.get(_size_class(rows)) if rows else _Quiet(0.0, 0)
        if prompt_tokens == 0:
            before = quiet.seconds if quiet else None
            self._quiet[_size_class(rows)] = _Quiet(_blend(before, seconds), self._step)
        elif quiet is not None and (rows or prompt_tokens >= LEAST_TOKENS):
            self._prompts_s += seconds - quiet.seconds - _WEIGHT * self._prompts_s
            self._prompt_tokens += prompt_tokens - _WEIGHT * self._prompt_tokens
            self._most = max(_FIRST_MOST, 2 * prompt_tokens)


def shares(remaining: Sequence[int], budget: int) -> list[int]:
    """How many of `budget` prompt tokens each row gets, by what each still needs, the oldest first.

    Half of it is for the oldest, so that a long prompt comes to its end; the rest goes to the shortest, one
    after the other: in equal parts, all would wait for the last.
    """
    hungry = [index for index, tokens in enumerate(remaining) if tokens]
    parts = [0] * len(remaining)
    for index in hungry[:1]:
        parts[index] = min(remaining[index], (budget + 1) // 2)
    left = budget - sum(parts)
    for index in (*sorted(hungry[1:], key=remaining.__getitem__), *hungry[:1]):
        more = min(remaining[index] - parts[index], left)
        parts[index] += more
        left -= more
    return parts


def _size_class(rows: int) -> int:
    """Half octaves: steps of rows in one class take about as long."""
    return round(2 * math.log2(rows)) if rows else -1


def _blend(before: float | None, now: float) -> float:
    return now if before is None else before + _WEIGHT * (now - before)
