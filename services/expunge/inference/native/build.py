"""Compiles the kernels for this very processor, once, and keeps the result in the cache."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

from expunge.observability.logging import get_logger

FOLDER = Path(__file__).parent
SOURCES = (FOLDER / "kernels.c", FOLDER / "products.c")
_HEADERS = (FOLDER / "vectors.h", FOLDER / "adapters.h")
_FLAGS = (
    *("-std=c11", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno"),
    *("-fopenmp", "-shared", "-fPIC"),
)
_TIMEOUT_S = 120.0

_log = get_logger()


def load_library(cache: Path) -> ctypes.CDLL | None:
    """The kernels as a shared library; None where they can't be built, and the log says why.

    They are compiled when no library of these sources, compiler and processor is in `cache`. They use the
    same OpenMP threads as torch, which must be loaded first: a second set of threads would compete with
    those.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        _log.warning("kernels_not_built", detail="no C compiler (cc, gcc or $CC) was found")
        return None
    try:
        library = cache / f"kernels-{_fingerprint(compiler)}.so"
        if not library.exists():
            _compile(compiler, library)
        _require_trusted(cache, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None)
        _log.warning("kernels_not_built", detail=f"{error}: {output or ''}".strip()[:2000])
        return None


def _require_trusted(*paths: Path) -> None:
    """Raise PermissionError where another user could have put code of their own that would run as ours."""
    for path in paths:
        status = path.stat()
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
            raise PermissionError(f"{path} belongs to another user, or everybody may write to it; remove it")


def _fingerprint(compiler: str) -> str:
    """Names everything that the machine code follows from."""
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
    )
    sources = (path.read_text() for path in (*SOURCES, *_HEADERS))
    parts = (*sources, " ".join(_FLAGS), version.stdout, platform.machine(), _processor())
    return sha256("\0".join(parts).encode()).hexdigest()[:32]


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model and features, which `-march=native` goes by."""
    if not cpuinfo.is_file():
        return platform.processor()
    told = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU implementer", "CPU part")
    lines = cpuinfo.read_text().splitlines()
    return "\n".join(sorted({line for line in lines if line.split(":")[0].strip() in told}))


def _compile(compiler: str, library: Path) -> None:
    """Write `library`, whole or not at all, whoever else compiles it at the same time."""
    library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        built = Path(folder) / library.name
        subprocess.run(
            [compiler, *_FLAGS, "-o", str(built), *map(str, SOURCES), "-lm"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
        built.replace(library)
