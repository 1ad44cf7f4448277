"""What a measurement was made on: a figure without it says nothing."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_PACKAGES = ("expunge", "torch", "transformers", "ray", "grpcio")


@dataclass(frozen=True)
class Conditions:
    """Machine, model and software of one run.

    Attributes:
        load_average: of the last minute before the run; near 0 on a machine that does nothing else.
    """

    cpu: str
    cores: int
    memory_gib: float
    load_average: float
    model: str
    dtype: str
    python: str
    kernel: str
    packages: dict[str, str]
    command: str

    @classmethod
    def now(cls, *, model: str, dtype: str, command: Sequence[str]) -> Conditions:
        return cls(
            cpu=cpu_model(Path("/proc/cpuinfo")),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            load_average=round(os.getloadavg()[0], 2),
            model=model,
            dtype=dtype,
            python=platform.python_version(),
            kernel=platform.release(),
            packages={name: found for name in _PACKAGES if (found := _version(name))},
            command=shlex.join(command),
        )

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For a person."""
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return [
            f"{self.cpu}, {self.cores} cores, {self.memory_gib} GiB, load {self.load_average} before the run",
            f"{self.model} in {self.dtype}; Python {self.python}, {packages}",
            self.command,
        ]


def cpu_model(cpuinfo: Path) -> str:
    """The processor's name, from /proc/cpuinfo where there is one."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
