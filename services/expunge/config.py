"""Settings: one source for defaults, environment variables (`EXPUNGE_*`), CLI help and docs.

Every field's description is the help text. Paths derive from `state_dir` and `cache_dir`, so that a test or a
second instance needs to set only those.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from expunge.errors import ConfigError, Violation

# How long a thread of torch looks for its next piece of work before it sleeps. One that sleeps at once has
# to be woken for every operator of a small model, which costs as much as it computes. libgomp spins
# GOMP_SPINCOUNT times, or 1,000 where a process has more such threads than cores, if ACTIVE.
_SPINNING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "10000"}


def all_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def thread_environment(threads: int = 0) -> dict[str, str]:
    """Environment of a process that computes with torch beside others on the same cores.

    Args:
        threads: of each operator; 0: as torch chooses.
    """
    environment = {**_SPINNING, "TOKENIZERS_PARALLELISM": "false"}
    return environment | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


class GuardReply(StrEnum):
    """How a client is told that a prompt is refused."""

    ERROR = "error"  # FAILED_PRECONDITION
    TEXT = "text"  # an ordinary answer with a neutral sentence


def read_settings(**given: Any) -> Settings:
    """Settings from the environment, with some `given`.

    Raises:
        ConfigError: every value that can't be used, by its name and its environment variable.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        violations = [Violation(".".join(map(str, found["loc"])), found["msg"]) for found in error.errors()]
        problems = "; ".join(
            f"{one.field} (EXPUNGE_{one.field.upper()}): {one.message}" for one in violations
        )
        raise ConfigError(f"these settings can't be used: {problems}", violations=violations) from None


class Settings(BaseSettings):
    """All settings of one Expunge service."""

    model_config = SettingsConfigDict(env_prefix="EXPUNGE_", frozen=True, extra="ignore")

    # places
    state_dir: Path = Field(Path("~/.local/share/expunge"), description="Database, blobs and keys live here.")
    cache_dir: Path = Field(Path("~/.cache/expunge"), description="Converted models live here.")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite under the state folder.")
    blob_url: str = Field(
        "", description="fsspec URL of the blob store; empty: a folder under the state folder."
    )
    master_key_file: Path | None = Field(
        None, description="32 bytes, base64; empty: made under the state folder."
    )
    tokens_file: Path | None = Field(
        None, description="YAML file of access tokens; empty: tokens.yaml in the state folder."
    )

    # model
    model: str = Field(
        "bundled", description="'bundled', a hub id, a folder of safetensors, or a .gguf file."
    )
    dtype: str = Field(
        "auto",
        description="auto, bfloat16 or float32; auto: bfloat16 where the CPU or GPU has it, or the model is "
        "stored in it. On a CPU that has not, it is for weights only: half the memory, faster steps, "
        "arithmetic in float32.",
    )
    default_alias: str = Field("default", description="Alias that points at the base version on first start.")

    # serving
    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    inference_port: int = Field(50051, ge=0, le=65535, description="gRPC inference port; 0: any free port.")
    operator_port: int = Field(50052, ge=0, le=65535, description="gRPC operator port; 0: any free port.")
    http_port: int = Field(
        8088, ge=0, le=65535, description="HTTP port (/v1/..., /healthz, /readyz); 0: any free port."
    )
    metrics_port: int = Field(9464, ge=0, le=65535, description="Prometheus /metrics port; 0: any free port.")
    reflection: bool = Field(True, description="Offer gRPC server reflection.")
    gateways: int = Field(1, ge=1, description="Gateway replicas, one per node.")
    drain_notice_s: float = Field(
        0.5, ge=0, description="A gateway that leaves shows NOT_SERVING so long before it refuses new calls."
    )
    drain_grace_s: float = Field(
        60.0,
        gt=0,
        description="Calls under way may take so long to end when a replica leaves; then UNAVAILABLE.",
    )
    max_requests: int = Field(
        512,
        ge=2,
        description="Answers under way in one gateway; no client may hold more than it leaves free.",
    )
    client_max_concurrent: int = Field(
        64, ge=1, description="Answers under way of one client in one gateway; tokens.yaml may say otherwise."
    )
    client_tokens_per_minute: int = Field(
        0,
        ge=0,
        description="Prompt and generated tokens of one client in one gateway; 0: no limit; see tokens.yaml.",
    )
    client_burst_tokens: int = Field(
        0, ge=0, description="Most of these tokens at once; 0: a minute's worth."
    )
    engine_replicas: int = Field(1, ge=1, description="Engine replicas; with autoscaling, the fewest.")
    engine_replicas_max: int = Field(
        0, ge=0, description="Most engine replicas; 0: engine_replicas, that is no autoscaling."
    )
    engine_target_ongoing: float = Field(
        16.0, gt=0, description="Ongoing requests of one replica that autoscaling aims at."
    )
    engine_upscale_delay_s: float = Field(
        5.0, ge=0, description="More replicas start once they have been needed for so long."
    )
    engine_downscale_delay_s: float = Field(
        120.0, ge=0, description="Replicas stop once they have not been needed for so long."
    )
    engine_scaling_window_s: float = Field(
        10.0, gt=0, description="Autoscaling takes the mean of ongoing requests over this time."
    )
    engine_prefix_slack: int = Field(
        8,
        ge=0,
        description="A request follows its prompt's beginning to a replica that has at most so many "
        "requests more than the least busy.",
    )
    engine_cpus: float = Field(
        0.5, gt=0, description="CPUs that Ray sets aside for one replica; its threads are engine_threads."
    )
    engine_threads: int = Field(
        0,
        ge=0,
        description="Most torch threads of one engine replica; 0: one for each core.",
    )
    backend: Literal["torch", "vllm"] = Field(
        "torch", description="What runs the model in an engine replica: torch, or vllm (expunge[vllm])."
    )
    engine_gpus: int = Field(
        0, ge=0, description="GPUs of one engine replica, for backend vllm; it splits the model over them."
    )
    max_batch_rows: int = Field(32, ge=1, description="Sequences decoded together on one replica.")
    max_queue: int = Field(128, ge=0, description="Requests that may wait on one replica before refusal.")
    max_context: int = Field(2048, ge=16, description="Prompt plus output tokens of one request.")
    kv_cache_mib: int = Field(
        1024,
        ge=1,
        description="Keys and values of one replica, in MiB: of what runs, and prompts kept for later.",
    )
    prefix_cache: bool = Field(
        True, description="Keep prompts, by version, for later ones that begin alike, as room allows."
    )
    native_kernels: bool = Field(
        True, description="Compile the engine's kernels for this processor, where there is a C compiler."
    )
    adapter_slots: int = Field(32, ge=2, description="Versions resident on one replica.")
    max_rank: int = Field(64, ge=1, description="Highest LoRA rank that is accepted.")
    max_adapter_bytes: int = Field(512 * 2**20, ge=1, description="Largest adapter upload, in bytes.")
    stream_batch_s: float = Field(
        0.02, ge=0.0, le=0.05, description="Tokens are sent together for this long."
    )
    guard_reply: GuardReply = Field(GuardReply.ERROR, description="How a suppressed prompt is refused.")

    # registry
    lease_s: float = Field(15.0, gt=0, description="How long a gateway serves without a confirmed registry.")
    staging_timeout_s: float = Field(
        30.0, gt=0, description="A replica that has not staged by then leaves routing."
    )

    # unlearning
    workers: int = Field(1, ge=1, description="Worker actors in the pool.")
    worker_threads: int = Field(
        0, ge=0, description="Most torch threads of one worker; 0: one for each core."
    )
    worker_nice: int = Field(
        10, ge=0, le=19, description="Nice level of workers, so that serving goes first."
    )
    unlearning_method: Literal["capped_surprise", "meow"] = Field(
        "capped_surprise", description="capped_surprise or meow."
    )
    unlearning_steps: int = Field(
        0, ge=0, description="Training steps of the first round; later ones take more. 0: the method's own."
    )
    selection_metric: Literal["largest", "smallest", "random"] = Field(
        "largest", description="Inverted facts of which MEMO are learnt: largest, smallest or random."
    )
    selection_top_k: int = Field(3, ge=1, description="Inverted facts that are selected for each fact.")
    generator: str = Field("substitution", description="Inverted facts from: substitution, self or endpoint.")
    generator_url: str = Field("", description="OpenAI-compatible endpoint for generator=endpoint.")
    generator_model: str = Field("", description="Model name at that endpoint.")
    audit_policy: str = Field(
        "default",
        description="What a version is held to before it may go live: default, strict, or a YAML file of "
        "one's own, which every node must have.",
    )
    thorough_audits: bool = Field(
        True,
        description="Attack a version once it is live in the ways that take too long before; what the policy "
        "says must not be found opens the erasure again.",
    )
    reaudit_interval_s: float = Field(
        86_400.0, ge=0, description="Seconds between audits of every live version; 0: none."
    )
    reaudit_sample: int = Field(
        8, ge=1, description="Closed erasures, drawn at random, that each of those audits asks for."
    )
    paraphraser_url: str = Field(
        "",
        description="OpenAI-compatible endpoint that writes other wordings for audits; it is sent the "
        "questions, never the answers. Empty: none.",
    )
    paraphraser_model: str = Field("", description="Model name at that endpoint.")
    paraphrases: int = Field(4, ge=1, le=16, description="Wordings that it writes for each fact.")
    candidates: int = Field(4, ge=1, le=16, description="Inverted-fact candidates for each fact.")
    memo_max_cuts: int = Field(4, ge=0, description="MEMO cuts per text in jobs, evenly spread; 0: all.")
    memo_max_new_tokens: int = Field(
        32, ge=1, le=200, description="MEMO generation limit in jobs; the paper's is 200."
    )
    max_rounds: int = Field(3, ge=1, description="Training rounds before an erasure fails.")
    erasure_days: int = Field(
        30, ge=1, description="Days until an erasure is due when the operator names no date."
    )

    @field_validator("engine_replicas_max")
    @classmethod
    def _is_not_below_the_fewest(cls, most: int, given: ValidationInfo) -> int:
        fewest = given.data.get("engine_replicas", 1)
        if 0 < most < fewest:
            raise ValueError(f"is {most}, fewer than engine_replicas, {fewest}; raise it, or lower the other")
        return most

    @property
    def resolved_engine_replicas_max(self) -> int:
        return self.engine_replicas_max or self.engine_replicas

    @property
    def has_autoscaling(self) -> bool:
        return self.resolved_engine_replicas_max > self.engine_replicas

    @property
    def resolved_engine_threads(self) -> int:
        return self.engine_threads or all_cores()

    @property
    def resolved_worker_threads(self) -> int:
        return self.worker_threads or all_cores()

    @property
    def state(self) -> Path:
        return self.state_dir.expanduser()

    @property
    def cache(self) -> Path:
        return self.cache_dir.expanduser()

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.state / 'expunge.db'}"

    @property
    def resolved_blob_url(self) -> str:
        return self.blob_url or f"file://{self.state / 'blobs'}"

    @property
    def resolved_master_key_file(self) -> Path:
        return self.master_key_file or self.state / "master.key"

    @property
    def resolved_tokens_file(self) -> Path:
        return self.tokens_file or self.state / "tokens.yaml"
