"""The controller as a detached Ray actor, restarted by Ray whenever its process dies."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import ray

from expunge.auditing.policy import Policy
from expunge.config import Settings
from expunge.erasures.controller import ErasureController
from expunge.erasures.credential import verification_key
from expunge.erasures.verification import LiveVerifier
from expunge.observability.logging import configure_logging, get_logger
from expunge.registry.client import NAMESPACE, RegistryClient
from expunge.unlearning.pool import WorkerPool

ACTOR_NAME = "controller"


class ControllerActor:
    """Runs `ErasureController` in a thread of its own, from the moment the actor is created or restarted."""

    def __init__(self, settings: Settings) -> None:
        configure_logging("controller")
        self._settings = settings
        self._thread = threading.Thread(target=self._work, name="controller", daemon=True)
        self._thread.start()

    def pid(self) -> int:
        """The actor's process id; also tells that it is alive."""
        return os.getpid()

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            get_logger().critical("controller_died", exc_info=error)
            os._exit(1)  # Ray starts the actor anew, which goes on from the registry

    async def _run(self) -> None:
        registry = RegistryClient(lease_s=self._settings.lease_s)
        await registry.get_policy()  # the registry makes the master key before it answers
        verifier = LiveVerifier(
            verification_key(self._settings),
            max_context=self._settings.max_context,
            policy=Policy.of(self._settings),
        )
        pool = WorkerPool(self._settings, registry)
        await pool.start()  # importing torch takes longer than most steps; the first job need not wait for it
        await ErasureController(registry, pool, verifier, self._settings).run()


def connect_or_start_controller(settings: Settings) -> Any:
    """A handle of the cluster's controller, which is started if there is none yet. Ray must be initialised.

    Settings of a controller that runs already are not changed.
    """
    return (
        ray.remote(ControllerActor)
        .options(
            name=ACTOR_NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=-1,
            num_cpus=0,
        )
        .remote(settings)
    )
