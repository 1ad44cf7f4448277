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
        kv_tokens: key and value positions reserved for running rows, as rows times the longest of them.
        busy_prefill_tokens: prompt tokens prefilled per step while others decode; they wait meanwhile.
        idle_prefill_tokens: the same while nothing decodes.
        prefix_cache_bytes: keys and values of prompts kept for later ones; 0: none.
    """

    max_rows: int = 32
    max_queue: int = 128
    max_context: int = 2048
    slots: int = 16
    max_rank: int = 64
    kv_tokens: int = 32 * 1024
    busy_prefill_tokens: int = 128
    idle_prefill_tokens: int = 512
    prefix_cache_bytes: int = 256 * 2**20

    @classmethod
    def of(cls, settings: Settings) -> EngineLimits:
        """The limits that `settings` ask for."""
        return cls(
            max_rows=settings.max_batch_rows,
            max_queue=settings.max_queue,
            max_context=settings.max_context,
            slots=2 * settings.adapter_slots,
            max_rank=settings.max_rank,
            prefix_cache_bytes=settings.prefix_cache_mib * 2**20,
        )
