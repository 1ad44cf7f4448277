"""Requests in vLLM's words: the arguments of its `SamplingParams`, as plain dictionaries.

Texts are made from tokens on our side, so stop strings are looked for there, too: both backends cut an answer
at the same character.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

from expunge.inference.request import GenerationRequest, Priority

PRIORITIES = {Priority.INTERACTIVE: 0, Priority.BATCH: 1}  # the lower goes first
_SEED_BYTES = 8


def generation_arguments(request: GenerationRequest, limit: int, eos_ids: Collection[int]) -> dict[str, Any]:
    """How `request` is to be answered.

    Args:
        limit: tokens that may be generated; vLLM makes one even where that is 0, which is not sent on.
        eos_ids: tokens that end an answer.
    """
    sampling = request.sampling
    return {
        "n": 1,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": seed_of(sampling.seed, request.choice),
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": dict(sampling.logit_bias) or None,
        "max_tokens": max(1, limit),
        "stop_token_ids": sorted(eos_ids),
        "ignore_eos": True,  # `stop_token_ids` has them all
        "logprobs": request.logprobs,
        "prompt_logprobs": (request.logprobs or 0) if request.prompt_logprobs else None,
        "detokenize": False,
    }


def scoring_arguments() -> dict[str, Any]:
    """How the log-probability and the rank of every token of a text are asked for."""
    return {"n": 1, "temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}


def seed_of(seed: int | None, choice: int) -> int | None:
    """A seed of its own for each answer to one prompt, from 0 to 2⁶³ - 1; None stays None."""
    if seed is None:
        return None
    digest = hashlib.sha256(f"{seed}/{choice}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES], "big") >> 1
