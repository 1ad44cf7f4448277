"""How many prompt tokens one step may take on, so that running streams hardly notice."""

from __future__ import annotations

LEAST_TOKENS = 8  # fewer would cost more by the weights that are read than by what is computed
STEP = 8
_WEIGHT = 0.2  # of a new observation


class PrefillBudget:
    """Learns what a step costs without prompts, and what a prompt's token adds.

    Args:
        idle_tokens: prompt tokens of a step in which nothing else runs; also the most of any step.
        stretch: how many times as long as one without prompts a step may take; longer where more prompts
            wait than rows decode: then prompts get a share of the time as large as theirs of the requests.
    """

    def __init__(self, idle_tokens: int, stretch: float) -> None:
        self._idle = idle_tokens
        self._stretch = stretch
        self._quiet_s: dict[int, float] = {}  # by size class of the rows that decode
        self._token_s: float | None = None

    def tokens(self, rows: int, prompts: int = 1) -> int:
        """Prompt tokens for a step in which `rows` rows decode and `prompts` prompts are not through."""
        if rows == 0:
            return self._idle
        least = min(LEAST_TOKENS, self._idle)
        quiet_s = self._quiet(rows)
        if quiet_s is None or not self._token_s:
            return least
        stretch = max(self._stretch, 1 + prompts / rows)
        affordable = int((stretch - 1) * quiet_s / self._token_s)
        return max(least, min(self._idle, affordable // STEP * STEP))

    def observe(self, rows: int, prompt_tokens: int, seconds: float) -> None:
        """A step with `rows` rows that decoded and `prompt_tokens` of prompts took `seconds`."""
        if prompt_tokens == 0:
            size = rows.bit_length()
            self._quiet_s[size] = _blend(self._quiet_s.get(size), seconds)
            return
        quiet_s = self._quiet(rows) if rows else 0.0
        if quiet_s is not None and (rows or prompt_tokens >= LEAST_TOKENS):
            self._token_s = _blend(self._token_s, max(0.0, seconds - quiet_s) / prompt_tokens)

    def _quiet(self, rows: int) -> float | None:
        """Seconds of a step without prompts, as of the size class nearest to `rows`."""
        if not self._quiet_s:
            return None
        return self._quiet_s[min(self._quiet_s, key=lambda size: abs(size - rows.bit_length()))]


def _blend(before: float | None, now: float) -> float:
    return now if before is None else before + _WEIGHT * (now - before)
