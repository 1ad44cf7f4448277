"""Sizes of one engine."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.config import Settings


@dataclass(frozen=True)
class EngineLimits:
    """How much one engine takes on.

    Attributes:
        max_rows: sequences decoded together.
        max_queue: requests that may wait for their prefill.
        max_context: prompt and output tokens of one request.
        slots: adapters resident at once; those on their way out count until their last use ends.
        max_rank: highest adapter rank.
        kv_bytes: keys and values of running requests and kept prompts, allocated at once.
        keeps_prefixes: whether prompts are kept for later ones that begin alike.
        idle_prefill_tokens: prompt tokens of one step while nothing decodes.
        step_stretch: how many times as long as without prompts a step may take while others decode.
    """

    max_rows: int = 32
    max_queue: int = 128
    max_context: int = 2048
    slots: int = 16
    max_rank: int = 64
    kv_bytes: int = 64 * 2**20
    keeps_prefixes: bool = True
    idle_prefill_tokens: int = 512
    step_stretch: float = 1.5

    @classmethod
    def of(cls, settings: Settings) -> EngineLimits:
        """The limits that `settings` ask for."""
        return cls(
            max_rows=settings.max_batch_rows,
            max_queue=settings.max_queue,
            max_context=settings.max_context,
            slots=2 * settings.adapter_slots,
            max_rank=settings.max_rank,
            kv_bytes=settings.kv_cache_mib * 2**20,
            keeps_prefixes=settings.prefix_cache,
        )
