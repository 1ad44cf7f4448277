"""The worker as a named Ray actor, which starts again with nothing but its settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import ray

from expunge.config import Settings, thread_environment
from expunge.errors import Unavailable
from expunge.observability.logging import configure_logging
from expunge.registry.client import NAMESPACE, RegistryClient


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker answers to a ping: its process, and the jobs it has in hand."""

    name: str
    pid: int
    jobs: tuple[str, ...]


class Worker:
    """Does the jobs it is given, one at a time, at low priority.

    Args:
        name: "worker-<n>".
        settings: of the service.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        # torch is imported in the worker's own process only, not in that of whoever starts it
        from expunge.unlearning.runner import JobRunner
        from expunge.unlearning.workbench import Workbench

        configure_logging("worker")
        os.nice(settings.worker_nice)
        registry = RegistryClient(settings.lease_s)
        self._runner = JobRunner(name, registry, lambda: Workbench.open(settings))

    async def run(self, job_id: str) -> Unavailable | None:
        """Do a job; its outcome is in the registry. An error is returned where it may be run again."""
        try:
            await self._runner.run(job_id)
        except Unavailable as error:
            return error
        return None

    async def warm(self) -> None:
        """Load the model before the first job."""
        await self._runner.warm()

    async def ping(self) -> WorkerStatus:
        """Alive, and doing what."""
        return WorkerStatus(self._runner.name, os.getpid(), self._runner.jobs)


def start_worker(name: str, settings: Settings) -> Any:
    """The actor handle of worker `name`; it is started if there is none. Ray must be initialised."""
    threads = thread_environment(settings.resolved_worker_threads)
    actor = ray.remote(Worker).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=0,
        runtime_env={"env_vars": threads},
    )
    return actor.remote(name, settings)
