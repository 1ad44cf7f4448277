"""What is mixed into vLLM's worker processes: a look at which factors of an adapter are really used."""

from __future__ import annotations

from typing import Any


class FactorCensus:
    """vLLM skips factors for which it finds no layer and answers without them; this tells which those are."""

    model_runner: Any

    def expunge_idle_factors(self, number: int) -> list[str]:
        """Names of the modules whose factors under adapter `number` no layer uses.

        The whole adapter, by its number, where it is not registered or has no slot.
        """
        manager = self.model_runner.lora_manager._adapter_manager
        adapter = manager.get_adapter(number)
        if adapter is None or number not in manager.lora_index_to_id:
            return [f"adapter {number}"]
        return sorted(set(adapter.loras) - set(manager.modules))
