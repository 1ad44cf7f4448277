"""Generates services/expunge/rpc from the protos in this folder: `python protos/generate.py [FOLDER]`.

The proto packages are `expunge.<area>.v1`; in Python their modules live under `expunge.rpc`, so that
generated and written code never share a folder. protoc derives import paths from file paths, hence the
rewriting of imports.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
TARGET = PROTOS.parent / "services" / "expunge" / "rpc"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
FACE = '"""Code generated from protos/ by protos/generate.py; never edited."""\n'

_OWN_IMPORT = re.compile(r"^(from|import) expunge\.(inference|operator)\.(v\d+)\b", re.MULTILINE)


def main(target: Path) -> int:
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={PROTOS}",
                f"--proto_path={WELL_KNOWN}",
                f"--python_out={folder}",
                f"--grpc_python_out={folder}",
                f"--mypy_out=quiet:{folder}",
                f"--mypy_grpc_out=quiet:{folder}",
                *sources,
            ]
        )
        if status != 0:
            return int(status)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(Path(folder) / "expunge", target)
    for package in (target, *(path for path in target.rglob("*") if path.is_dir())):
        (package / "__init__.py").write_text(FACE)
    for module in (*target.rglob("*_pb2*.py"), *target.rglob("*_pb2*.pyi")):
        module.write_text(_OWN_IMPORT.sub(r"\1 expunge.rpc.\2.\3", module.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else TARGET))
