"""Does an adapter reach the result? Asked of vLLM after it has loaded one."""

from __future__ import annotations

import math

import torch
from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from expunge.errors import InvalidAdapter
from expunge.inference.vllm.sampling import scoring_arguments
from expunge.lora.adapter import Adapter

TOKENS = 16
NEAR = 1e-4  # what else is in the batch moves log-probabilities in fp32 by less


class Probe:
    """Compares the log-probabilities of a fixed text under an adapter with those of the base model.

    vLLM answers from the base model where it can't use an adapter's factors. What is computed here for the
    base goes to nobody.

    Args:
        llm: the engine.
        vocabulary: token ids are below it.
    """

    def __init__(self, llm: AsyncLLM, vocabulary: int) -> None:
        self._llm = llm
        self._tokens = [index * vocabulary // TOKENS for index in range(TOKENS)]
        self._base: list[float] | None = None

    async def check(self, version: str, adapter: Adapter, loaded: LoRARequest) -> None:
        """Refuse an adapter that computes what is not finite, or what the base computes.

        Raises:
            InvalidAdapter: naming the version.
        """
        await self._check_factors(version, loaded)
        found = await self._logprobs(loaded)
        if not all(map(math.isfinite, found)):
            raise InvalidAdapter(f"version {version} computes numbers that are not finite; train it again")
        if self._base is None:
            self._base = await self._logprobs(None)
        is_base = all(abs(one - other) < NEAR for one, other in zip(found, self._base, strict=True))
        if is_base and _changes(adapter):
            raise InvalidAdapter(
                f"version {version} computes just what the base model does, although its factors are not "
                "zero; serve it in a finer dtype or with backend torch"
            )

    async def _check_factors(self, version: str, loaded: LoRARequest) -> None:
        workers = await self._llm.collective_rpc("expunge_idle_factors", args=(loaded.lora_int_id,))
        idle = sorted({name for names in workers for name in names})
        if idle:
            raise InvalidAdapter(
                f"vLLM does not use the factors of version {version} for {', '.join(idle[:3])} "
                f"({len(idle)} in all); train it on other modules, or serve it with backend torch"
            )

    async def _logprobs(self, adapter: LoRARequest | None) -> list[float]:
        name = adapter.lora_name if adapter else "base"
        params = SamplingParams(**scoring_arguments(), output_kind=RequestOutputKind.FINAL_ONLY)
        prompt = {"type": "token", "prompt_token_ids": list(self._tokens), "cache_salt": f"probe {name}"}
        positions = None
        async for output in self._llm.generate(prompt, params, f"probe {name}", lora_request=adapter):
            positions = output.prompt_logprobs
        return [
            position[token].logprob
            for token, position in zip(self._tokens, positions or (), strict=True)
            if position
        ]


def _changes(adapter: Adapter) -> bool:
    return any(bool(torch.any(pair.b.float() @ pair.a.float())) for pair in adapter.pairs.values())
