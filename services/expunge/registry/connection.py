"""Calling the registry's actor, also while it is being restarted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from expunge.errors import ExpungeError, Unavailable

NAMESPACE = "expunge"
ACTOR_NAME = "registry"
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 0.5


class _NoSuchActor(Exception):
    """The actor has not been started yet."""


class Connection:
    """Finds the actor by name when it is first needed, and again whenever it is lost. Picklable.

    Args:
        lease_s: how long a call is repeated while the actor can't be reached, in seconds.
    """

    def __init__(self, lease_s: float, name: str = ACTOR_NAME, namespace: str = NAMESPACE) -> None:
        self._lease_s = lease_s
        self._name = name
        self._namespace = namespace
        self._actor: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_actor": None}

    async def call(self, method: str, *arguments: Any, patience_s: float = 0.0, **options: Any) -> Any:
        """Call a method of the service.

        Args:
            patience_s: how long the operation itself may wait, beside the lease.

        Raises:
            Unavailable: the registry could not be reached for a whole lease, or did not answer in time.
                Whether the operation took place is not known then; every operation may be repeated.
            ExpungeError: what the operation raised.
        """
        give_up_at = time.monotonic() + self._lease_s
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                return await self._attempt(method, arguments, options, patience_s)
            except (RayActorError, _NoSuchActor) as error:  # dead, restarting, or cut off
                self._actor = None
                lost = type(error).__name__
            if time.monotonic() + delay_s >= give_up_at:
                raise Unavailable(
                    f"the registry could not be reached for {self._lease_s:g} s ({lost}); "
                    "try again once it is back",
                    retry_after_s=_LONGEST_DELAY_S,
                )
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _attempt(
        self, method: str, arguments: tuple[Any, ...], options: dict[str, Any], patience_s: float
    ) -> Any:
        if self._actor is None:
            self._actor = await asyncio.to_thread(self._find)
        limit_s = patience_s + 3 * self._lease_s  # a flip may wait for a lease to run out
        reference = self._actor.call.remote(method, arguments, options)
        try:
            async with asyncio.timeout(limit_s):  # `wait_for` loses a cancellation beside the answer
                value, error = await reference
        except TimeoutError:
            raise Unavailable(
                f"the registry did not answer '{method}' within {limit_s:g} s; whether it took place is not "
                "known, repeat it"
            ) from None
        except RayTaskError as failure:
            raise ExpungeError(
                f"the registry failed in '{method}' ({type(failure.cause).__name__})"
            ) from failure
        if error is not None:
            raise error
        return value

    def _find(self) -> Any:
        if not ray.is_initialized():
            raise Unavailable("this process is not connected to Ray; connect it before calling the registry")
        try:
            return ray.get_actor(self._name, namespace=self._namespace)
        except ValueError:
            raise _NoSuchActor from None
