"""Sets the service up for the benchmark: one it starts itself, or one that runs already."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from expunge.benchmarks.serving.adapters import write_random_adapter
from expunge.benchmarks.serving.footprint import listener
from expunge.benchmarks.serving.matrix import ADAPTERS, BASE
from expunge.benchmarks.serving.operator import Operator
from expunge.config import Settings
from expunge.gateway.base_model import BaseModel
from expunge.gateway.launch import Say, launch
from expunge.gateway.service_file import ServiceFile, read_credential

SPARE = "bench-a2"  # what the first alias is flipped to


@dataclass(frozen=True)
class Access:
    """Where a service is, and the tokens for it.

    Attributes:
        pid: the process above those of the service; None where it is not on this machine.
    """

    inference: str
    operator: str
    client_token: str
    operator_token: str
    pid: int | None


@contextmanager
def own_service(settings: Settings, pid: int, say: Say) -> Iterator[Access]:
    """A service of the benchmark's own, on free ports and a state folder that goes away with it.

    Args:
        settings: the model and sizes; places and ports are set here.
        pid: of this process, whose children the service's processes are.
    """
    with tempfile.TemporaryDirectory(prefix="expunge-bench-") as folder:
        free = {f"{name}_port": 0 for name in ("inference", "operator", "http", "metrics")}
        own = settings.model_copy(update={"state_dir": Path(folder), "host": "127.0.0.1", **free})
        with launch(own, say=say) as service:
            yield Access(
                service.addresses.inference,
                service.addresses.operator,
                read_credential(own.state, "client"),
                read_credential(own.state, "operator"),
                pid,
            )


def service_pid(state: Path, address: str) -> int | None:
    """The process above those of a service on this machine: by its state folder, else by its port."""
    running = ServiceFile.read(state)
    if running is not None and running.inference == address:
        return running.pid
    return listener_of(f"//{address}")


def listener_of(url: str) -> int | None:
    """Who listens where a URL points, if that is this machine."""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1") or parts.port is None:
        return None
    return listener(parts.port)


def write_adapters(settings: Settings, folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The benchmark's adapters of these names, below `folder`; a seed each, so the same every time."""
    shape = BaseModel.find(settings).shape()
    seeds = {name: seed for seed, name in enumerate((*ADAPTERS, SPARE), 1)}
    return {name: write_random_adapter(folder / name, shape, seed=seeds[name]) for name in names}


def set_up(operator: Operator, folders: Mapping[str, Path]) -> dict[str, str]:
    """Pushes the adapters, points an alias of its name at each but the spare one, and one at the base.

    Returns:
        the versions by name.
    """
    base, digest = operator.base()
    versions = {name: operator.push(folder, name, digest) for name, folder in folders.items()}
    aliases = {name: version for name, version in versions.items() if name != SPARE}
    for alias, version in {BASE: base, **aliases}.items():
        operator.roll_out(alias, version, operator.generation(alias))
    return versions
