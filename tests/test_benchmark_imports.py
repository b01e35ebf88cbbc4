"""Every benchmark finds what it takes from another one, and from the package."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def imports_of(file: Path) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a file takes from somewhere."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


def names_in(file: Path) -> set[str]:
    """What is defined or imported at the top of a file."""
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        else:
            found |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return found


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("*.py")), ids=lambda file: file.stem)
def test_what_a_benchmark_imports_exists(file: Path) -> None:
    for module, name in imports_of(file):
        if (BENCHMARKS / f"{module}.py").is_file():
            assert name in names_in(BENCHMARKS / f"{module}.py"), f"{module}.{name}"
        elif module.split(".")[0] == "open_ldm":
            found = importlib.import_module(module)
            assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}") is not None, f"{module}.{name}"
