"""Engine replicas under Serve on the tiny model, asked from the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployed import processes
from expunge.config import Settings
from expunge.gateway.base_model import BaseModel, publish_base
from expunge.inference.deployment import build_engine
from expunge.inference.request import GenerationRequest
from expunge.inference.stats import EngineStats
from expunge.lora.files import version_id
from expunge.registry.actor import connect_or_start
from expunge.registry.blobs import BlobStore
from expunge.registry.client import NAMESPACE, RegistryClient
from expunge.registry.records import MemberKind, MemberStatus, VersionKind, VersionRecord

PERIOD_S = 0.1  # between two looks at something that is waited for
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Engines:
    """Running replicas."""

    settings: Settings
    handle: DeploymentHandle
    registry: RegistryClient
    base: BaseModel

    async def stats(self) -> dict[str, EngineStats]:
        """What each replica has done, by name."""
        told = await asyncio.to_thread(self.handle.broadcast("stats").results, timeout_s=60)
        return dict(told)

    async def members(self) -> list[MemberStatus]:
        members = await self.registry.members()
        return [member for member in members if member.kind is MemberKind.ENGINE]

    def ask(self, prompt: str, *, version: str = "", max_tokens: int = 4) -> GenerationRequest:
        return GenerationRequest("r", version or self.base.version, prompt=prompt, max_tokens=max_tokens)

    @asynccontextmanager
    async def counting_prompts(self) -> AsyncIterator[dict[str, int]]:
        """How many prompt tokens each replica takes, computed or not, inside this context."""
        before, taken = await self.stats(), dict[str, int]()
        yield taken
        for name, after in (await self.stats()).items():
            taken[name] = _prompt_tokens(after) - (_prompt_tokens(before[name]) if name in before else 0)


def _prompt_tokens(stats: EngineStats) -> int:
    return stats.prompt_tokens + stats.cached_prompt_tokens


@contextmanager
def engines(settings: Settings, metrics_port: int | None = None) -> Iterator[Engines]:
    """Starts Ray, a registry and replicas, and stops all of it.

    Args:
        metrics_port: where Ray's agent shows metrics; None: there is no agent.
    """
    ray.init(
        num_cpus=2,
        include_dashboard=metrics_port is not None,
        dashboard_port=0,
        _metrics_export_port=metrics_port,
        namespace=NAMESPACE,
        address="local",
        log_to_driver=False,
        _temp_dir="/tmp/ray-engines",  # short: sockets lie in it
    )
    try:
        registry, base = connect_or_start(settings), BaseModel.find(settings)
        asyncio.run(publish_base(registry, settings, base))
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        handle = serve.run(build_engine(settings), name="engines", route_prefix=None)
        yield Engines(settings, handle, registry, base)
        handle.shutdown()  # else its thread goes on reporting to a Ray that is gone
        serve.delete("engines")
    finally:
        ray.shutdown()


async def put_adapter(engines: Engines, folder: Path) -> VersionRecord:
    """An adapter version that no alias points at."""
    identity = version_id(folder)
    key = f"adapters/{identity}"
    BlobStore(engines.settings.resolved_blob_url).put_folder(folder, key)
    record = VersionRecord(identity, VersionKind.ADAPTER, folder.name, engines.base.digest, blob=key)
    return await engines.registry.put_version(record)


async def eventually(is_so: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until `is_so`; it may be a coroutine function.

    Raises:
        TimeoutError: not in time.
    """
    async with asyncio.timeout(patience_s):
        while True:
            found = is_so()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(PERIOD_S)


def replica_processes() -> list[psutil.Process]:
    return processes("ServeReplica:engines:Engine")
