"""The package is built as docs/structure.md says: every module is on the map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "services" / "expunge"


def modules() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__init__.py" and "rpc" not in path.relative_to(PACKAGE).parts:
            yield path.relative_to(PACKAGE)


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
