"""What an engine has done and is doing, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineStats:
    """A snapshot. The token counts only rise while the process lives."""

    running: int  # requests that are being prefilled or decoded
    waiting: int
    prompt_tokens: int  # computed
    cached_prompt_tokens: int  # not computed: in the prefix cache, or common to prompts of one pass
    generated_tokens: int
    prefix_cache_bytes: int
    staged: int = 0  # versions resident
