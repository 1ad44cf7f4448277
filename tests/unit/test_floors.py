"""Imports between the package's rooms point downwards only; docs/structure.md draws the same floors."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import expunge

PACKAGE = Path(expunge.__file__).parent
FLOORS = (
    ("cli", "benchmarks"),
    ("client",),
    ("gateway",),
    ("erasures",),
    ("unlearning",),
    ("auditing",),
    ("inference",),
    ("registry",),
    ("lora", "models"),
    ("observability", "config", "errors", "facts", "rpc"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(reversed(FLOORS)) for room in rooms}
# A restart of the registry must fit inside the gateways' lease.
HEAVY = ("torch", "transformers", "peft")


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "rpc" not in path.relative_to(PACKAGE).parts)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that `path` imports, inside functions and for types only, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in sources()} - {"__init__"}
    assert rooms == set(FLOOR_OF) - {"rpc"}


@pytest.mark.parametrize("room", sorted(set(FLOOR_OF) - {"rpc"}))
def test_a_room_imports_only_from_the_floors_below(room: str) -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in sources()
        if room_of(path) == room
        for line, name in imported(path)
        if is_within(name, "expunge")
        for other in [name.split(".")[1]]
        if other != room and FLOOR_OF[other] > FLOOR_OF[room]
    ]
    assert found == []


def test_the_registry_imports_no_model_library() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in sources()
        if room_of(path) == "registry"
        for line, name in imported(path)
        if any(is_within(name, heavy) for heavy in HEAVY)
    ]
    assert found == []


def test_the_client_knows_nothing_of_the_service_but_its_protos() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path in sources()
        if room_of(path) == "client"
        for line, name in imported(path)
        if is_within(name, "expunge") and name.split(".")[1] not in ("client", "rpc", "errors")
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("expunge.client", (*HEAVY, "ray", "pydantic", "yaml")),
        ("expunge.benchmarks.serving.load_process", (*HEAVY, "ray")),
        ("expunge.benchmarks.serving.expunge_asker", (*HEAVY, "ray")),
        ("expunge.benchmarks.serving.openai_asker", (*HEAVY, "ray")),
        ("expunge.registry.actor", HEAVY),
        ("expunge.erasures.actor", HEAVY),
        ("expunge.gateway.deployment", HEAVY[1:]),  # checks the tensors of pushed adapters with torch
        ("expunge.gateway.launch", HEAVY[1:]),
        ("expunge.cli.demo.play", HEAVY[1:]),
    ],
)
def test_what_must_start_fast_loads_no_model_library(module: str, heavy: tuple[str, ...]) -> None:
    """Nor by way of other rooms: each is a process of its own."""
    program = f"import sys, {module}; print(*(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
