"""What an engine has done and is doing, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineStats:
    """A snapshot. The token counts only rise while the process lives."""

    running: int  # requests that are being prefilled or decoded
    waiting: int
    prompt_tokens: int  # computed
    cached_prompt_tokens: int  # not computed: kept from an earlier prompt
    generated_tokens: int
    preemptions: int  # requests that gave way to others, and went on later
    kv_used_bytes: int  # of running requests
    kv_kept_bytes: int  # of prompts kept for later ones
    kv_capacity_bytes: int
    staged: int = 0  # versions resident
