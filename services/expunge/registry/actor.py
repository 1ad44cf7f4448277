"""The registry as a detached Ray actor: a thin wrapper that outlives its process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from expunge.config import Settings
from expunge.errors import ExpungeError, NotFound
from expunge.observability.logging import configure_logging
from expunge.registry.client import ACTOR_NAME, NAMESPACE, RegistryClient
from expunge.registry.service import RegistryService

# Every follower occupies a call while it polls, and calls past this number would wait behind them.
MAX_CONCURRENCY = 4096


class RegistryActor:
    """Starts `RegistryService` on its first call and passes calls on. Ray restarts it when it dies."""

    def __init__(self, settings: Settings) -> None:
        configure_logging("registry")
        self._settings = settings
        self._service: RegistryService | None = None
        self._starting = asyncio.Lock()

    async def call(
        self, method: str, arguments: Sequence[Any], options: Mapping[str, Any]
    ) -> tuple[Any, ExpungeError | None]:
        """Call a method of the service; its outcome is a value or a domain error."""
        try:
            service = await self._started()
            operation = getattr(service, method, None)
            if not inspect.iscoroutinefunction(getattr(RegistryClient, method, None)) or operation is None:
                raise NotFound(f"the registry has no operation '{method}'")
            return await operation(*arguments, **options), None
        except ExpungeError as error:
            return None, error

    async def _started(self) -> RegistryService:
        async with self._starting:
            if self._service is None:
                service = RegistryService(self._settings)
                try:
                    await service.start()
                except BaseException:
                    await service.close()
                    raise
                self._service = service
            return self._service


def connect_or_start(settings: Settings) -> RegistryClient:
    """A client of the cluster's registry, which is started if there is none yet. Ray must be initialised.

    Settings of a registry that runs already are not changed.
    """
    ray.remote(RegistryActor).options(
        name=ACTOR_NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,  # the client decides what to repeat
        max_concurrency=MAX_CONCURRENCY,
        num_cpus=0,
    ).remote(settings)
    return RegistryClient(lease_s=settings.lease_s)
