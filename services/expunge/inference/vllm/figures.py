"""What vLLM tells of itself while it runs."""

from __future__ import annotations

from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase


class Figures(StatLoggerBase):
    """The latest share of its pool for keys and values in use, and how many requests gave way to others."""

    def __init__(self, vllm_config: Any = None, engine_index: int = 0) -> None:
        self.kv_share = 0.0
        self.preemptions = 0

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        """Take what one step tells."""
        if scheduler_stats is not None:
            self.kv_share = scheduler_stats.kv_cache_usage
        if iteration_stats is not None:
            self.preemptions += iteration_stats.num_preempted_reqs

    def log_engine_initialized(self) -> None:
        """Nothing is logged."""
