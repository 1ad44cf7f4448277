"""What an engine has done and is doing, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineStats:
    """A snapshot. The token counts only rise while the process lives."""

    running: int  # requests that are being prefilled or decoded
    waiting: int
    prompt_tokens: int
    generated_tokens: int
    staged: int = 0  # versions resident
