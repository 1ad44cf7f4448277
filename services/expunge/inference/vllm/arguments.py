"""What vLLM is started with: our limits in its words, as plain dictionaries."""

from __future__ import annotations

import os
from typing import Any

from expunge.inference.limits import EngineLimits
from expunge.inference.validation import MAX_LOGPROBS
from expunge.lora.shape import ModelShape
from expunge.models.load import LoadedModel

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those vLLM has slots for
CPU_BLOCK = 32  # tokens; its attention on CPUs works in multiples of 32, and only whole blocks are reused
CPU_STEP_TOKENS = 512  # of prompts, in one step: what decodes waits meanwhile
WORKER = "expunge.inference.vllm.worker.FactorCensus"

_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the cores are shared with other processes
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


def prepare_environment() -> None:
    """Set what vLLM reads from the environment, in part while it is imported; what is set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def engine_arguments(model: LoadedModel, limits: EngineLimits, gpus: int) -> dict[str, Any]:
    """Keyword arguments of `AsyncEngineArgs`.

    One position more than the context is allowed, since vLLM generates a token after every text it scores.
    """
    # Without this, vLLM makes the output head one that carries adapters, too: scoring one text while another
    # runs then breaks its kernels for CPUs. No adapter of ours has factors for it.
    targets = {path.rpartition(".")[2] for path in ModelShape.of(model.model, model.digest).modules}
    positions = getattr(model.model.config, "max_position_embeddings", limits.max_context + 1)
    arguments: dict[str, Any] = {
        "model": str(model.folder),
        "dtype": str(model.precision.weights).removeprefix("torch."),
        "load_format": "safetensors",
        "generation_config": "vllm",  # sampling is what the request says, not what the folder suggests
        "skip_tokenizer_init": True,  # prompts come as tokens, and answers leave as such
        "max_model_len": min(limits.max_context + 1, positions),
        "max_num_seqs": limits.max_rows,
        "max_logprobs": MAX_LOGPROBS,
        "scheduling_policy": "priority",
        "enable_prefix_caching": limits.keeps_prefixes,
        "enable_lora": True,
        "max_loras": limits.slots,
        "max_cpu_loras": limits.slots,  # as many as there are slots: vLLM never has to evict one
        "max_lora_rank": lora_rank(limits.max_rank),
        "lora_target_modules": sorted(targets),
        "worker_extension_cls": WORKER,
        "tensor_parallel_size": max(1, gpus),
        "disable_log_stats": True,
        "seed": 0,
    }
    if not gpus:
        arguments |= {
            "enforce_eager": True,
            "block_size": CPU_BLOCK,
            "max_num_batched_tokens": max(CPU_STEP_TOKENS, limits.max_rows),
            "kv_cache_memory_bytes": limits.kv_bytes,
        }
    return arguments


def lora_rank(rank: int) -> int:
    """The least rank vLLM has slots for that holds `rank`; its highest for more."""
    return next((size for size in RANKS if size >= rank), RANKS[-1])
