"""The package is built as docs/structure.md says: every module is on the map, and imports point down."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "services" / "expunge"
FLOORS = (
    {"cli", "benchmarks"},
    {"gateway"},
    {"erasures"},
    {"unlearning"},
    {"auditing"},
    {"inference"},
    {"registry"},
    {"lora", "models"},
    {"observability"},
    {"config", "errors", "facts"},
)
HEIGHT = {name: len(FLOORS) - number for number, names in enumerate(FLOORS) for name in names}


def modules() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__init__.py" and "rpc" not in path.relative_to(PACKAGE).parts:
            yield path.relative_to(PACKAGE)


def imported(module: Path) -> Iterator[str]:
    """First part below `expunge` of everything a module imports, wherever in it."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            parts = name.split(".")
            if parts[0] == "expunge" and len(parts) > 1 and parts[1] in HEIGHT:
                yield parts[1]


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_point_down_the_floors(module: Path) -> None:
    own = module.parts[0].removesuffix(".py")
    above = [name for name in imported(module) if HEIGHT[name] > HEIGHT[own]]
    assert above == []


def test_every_module_is_on_the_map() -> None:
    page = (ROOT / "docs" / "structure.md").read_text()
    sections = {part.split(":")[0].strip(): part for part in page.split("\n## ")}
    missing = [
        str(module)
        for module in modules()
        if f"`{'/'.join(module.parts[1:]) or module.name}`" not in sections.get(module.parts[0], page)
    ]
    assert missing == []


def test_the_map_names_no_module_that_is_gone() -> None:
    page = (ROOT / "docs" / "structure.md").read_text()
    there = {"/".join(module.parts[1:]) or module.name for module in modules()}
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name for name in rows if name not in there and name != "rpc/"] == []


def test_the_readme_lists_every_method_that_is_not_built() -> None:
    from expunge.gateway.roles import METHOD_ROLES

    readme = (ROOT / "README.md").read_text()
    for method in METHOD_ROLES:
        if method.endswith(("Override", "ExtendErasure", "RefuseErasure", "AcknowledgeRecipient", "SetPool")):
            assert method.rpartition("/")[2] in readme
    assert "LedgerService" in readme
