"""Starts the whole service on this machine or a Ray cluster, and stops it without leaving anything behind.

Order: state folders and tokens; the model's folder, digest and shape; Ray; the registry and base version;
the controller with its workers; the Serve application (`Engine`, `Gateway`); wait until a gateway is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType

import grpc
import ray
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ray import serve
from ray.serve.exceptions import RayServeException

from expunge.auditing.policy import Policy
from expunge.config import Settings, thread_environment
from expunge.erasures.actor import ACTOR_NAME as CONTROLLER
from expunge.erasures.actor import connect_or_start_controller
from expunge.errors import Unavailable
from expunge.gateway.base_model import BaseModel, publish_base
from expunge.gateway.deployment import build_gateway
from expunge.gateway.ports import PortClaims
from expunge.gateway.service_file import ServiceFile, StateClaim, create_tokens, credentials_path
from expunge.inference.deployment import build_engine, stop_timeout_s
from expunge.registry.actor import connect_or_start
from expunge.registry.addresses import Addresses
from expunge.registry.client import ACTOR_NAME as REGISTRY
from expunge.registry.client import NAMESPACE

APPLICATION = "expunge"
LOCAL = "local"
READY_TIMEOUT_S = 180.0
_ADDRESS_TIMEOUT_S = 30.0
_OBJECT_STORE_BYTES = 200 * 2**20  # nothing durable or large passes through it
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_worker_niceness": "0",  # by default 15: every other program would go before serving
}

Say = Callable[[str], None]


class RunningService:
    """A service that is up; a context manager that stops it.

    Attributes:
        addresses: where the (first) gateway listens.
        base: the base model that is served.
    """

    def __init__(
        self, settings: Settings, addresses: Addresses, base: BaseModel, claim: StateClaim, ray_address: str
    ) -> None:
        self.settings = settings
        self.addresses = addresses
        self.base = base
        self._claim = claim
        self._ray_address = ray_address
        self._running = True

    def __enter__(self) -> RunningService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Drains the gateways (NOT_SERVING, then calls under way end), and stops what `launch` started."""
        if self._running:
            self._running = False
            ServiceFile.remove(self.settings.state)
            try:
                _shut_down(self.settings, self._ray_address)
            finally:
                self._claim.release()


def launch(
    settings: Settings,
    *,
    ray_address: str = LOCAL,
    say: Say = lambda text: None,
    timeout_s: float = READY_TIMEOUT_S,
) -> RunningService:
    """Starts the service and waits until it is ready.

    Args:
        ray_address: "local" starts a Ray of its own on this machine; anything else is joined.
        say: told each step in a few words.

    Raises:
        ConfigError, ModelError: settings or model can't be used; nothing was started.
        Unavailable: it was not ready within `timeout_s`; everything was stopped again.
    """
    Policy.of(settings)
    _make_folders(settings)
    _check_ports(settings)
    claim = StateClaim.take(settings.state)
    try:
        return _launch(settings, claim, ray_address, say, timeout_s)
    except BaseException:
        _shut_down(settings, ray_address)
        claim.release()
        raise


def _launch(
    settings: Settings, claim: StateClaim, ray_address: str, say: Say, timeout_s: float
) -> RunningService:
    if create_tokens(settings.resolved_tokens_file, settings.state):
        say(f"made access tokens: {credentials_path(settings.state)}")
    say(f"finding the model '{settings.model}' (the first time it is converted, about half a minute)")
    base = BaseModel.find(settings)
    addresses = _start(settings, base, ray_address, say, timeout_s)
    ServiceFile(**asdict(addresses), pid=os.getpid()).write(settings.state)
    return RunningService(settings, addresses, base, claim, ray_address)


def _start(settings: Settings, base: BaseModel, ray_address: str, say: Say, timeout_s: float) -> Addresses:
    give_up_at = time.monotonic() + timeout_s
    say("starting Ray")
    _init_ray(ray_address)
    say("starting the registry")
    registry = connect_or_start(settings)
    asyncio.run(publish_base(registry, settings, base))
    say("starting the controller and the workers")
    connect_or_start_controller(settings)
    say("starting the engine and the gateway")
    addresses = _serve(settings)
    say("waiting until the engine holds every version")
    _await_ready(addresses.inference, give_up_at)
    return addresses


def _make_folders(settings: Settings) -> None:
    for folder in (settings.state, settings.cache):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _check_ports(settings: Settings) -> None:
    """Tells at once what the gateway would tell only after the model was loaded: a port is taken.

    Raises:
        ConfigError: names the setting and the port.
    """
    claims = PortClaims(f"launch {os.getpid()}", settings.host)
    try:
        for setting in ("inference_port", "operator_port", "http_port", "metrics_port"):
            claims.share(setting, getattr(settings, setting))
    finally:
        claims.release()


def _init_ray(address: str) -> None:
    """Joins or starts Ray without a word on the terminal."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if address != LOCAL:
        ray.init(
            address, namespace=NAMESPACE, log_to_driver=False, runtime_env={"env_vars": thread_environment()}
        )
        return
    os.environ.update(_QUIET)
    for name, value in thread_environment().items():
        os.environ.setdefault(name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ray.init(
        address=LOCAL,
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray's own print a stack and end the process undrained
            signal.signal(number, handler)


def _serve(settings: Settings) -> Addresses:
    """Deploys the application; Serve's own proxy is off, since the gateway has ports of its own.

    Returns:
        where a gateway listens.
    """
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
    application = build_gateway(settings, build_engine(settings))
    try:
        gateway = serve.run(application, name=APPLICATION, route_prefix=None)
    except RuntimeError as error:  # its text ends with that of what went wrong in a replica
        reason = str(error).strip().splitlines()[-1]
        raise Unavailable(f"the engine or the gateway did not start: {reason}") from error
    try:
        return Addresses.from_json(gateway.addresses.remote().result(timeout_s=_ADDRESS_TIMEOUT_S))
    except TimeoutError as error:
        raise Unavailable("the gateway does not say where it listens; its log says why") from error


def _await_ready(address: str, give_up_at: float) -> None:
    """Follows the health of the inference service until it is SERVING.

    Raises:
        Unavailable: not in time.
    """
    request = health_pb2.HealthCheckRequest(service="expunge.inference.v1.InferenceService")
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            for answer in stub.Watch(request, timeout=max(1.0, give_up_at - time.monotonic())):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        except grpc.RpcError as error:
            raise Unavailable(
                f"the gateway at {address} did not become ready: {error.code().name}"
            ) from error
    raise Unavailable(f"the gateway at {address} ended before it was ready; its log says why")


def _shut_down(settings: Settings, ray_address: str) -> None:
    """Deletes the application, which drains it, then ends Ray with every process it started.

    A Ray that was joined goes on; of it only the service's own actors are ended.
    """
    if not ray.is_initialized():
        return
    try:
        with contextlib.suppress(RayServeException):  # it did not come as far as the deployment
            _delete_application(stop_timeout_s(settings))
        if ray_address != LOCAL:
            _end_actors(settings)
    finally:
        ray.shutdown()


def _delete_application(patience_s: float) -> None:
    """Drains and deletes the application.

    Args:
        patience_s: what any replica is given; Serve itself waits for a minute.

    Raises:
        TimeoutError: it took longer.
    """
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            serve.delete(APPLICATION)
            return
        except TimeoutError:
            if time.monotonic() >= give_up_at:
                raise


def _end_actors(settings: Settings) -> None:
    workers = [f"worker-{index}" for index in range(settings.workers)]
    for name in (CONTROLLER, *workers, REGISTRY):
        with contextlib.suppress(ValueError):  # there is none of that name
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))
