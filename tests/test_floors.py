"""The house rules that a parser can check: imports point down, files and functions stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import open_ldm

SOURCE = Path(__file__).parents[1] / "src" / "open_ldm"
FLOORS = {
    "core": 0,
    "data": 1,
    "pages": 1,
    "sources": 2,
    "controls": 3,
    "autoencoders": 3,
    "text": 3,
    "process": 3,
    "encoded": 4,
    "conditioning": 4,
    "denoisers": 5,
    "model": 6,
    "checkpoints": 7,
    "interop": 8,
    "transfer_learning": 8,
    "training": 8,
    "sampling": 8,
    "evaluation": 9,
    "run_folder": 10,
    "runs": 11,
    "commands": 12,
    "studies": 13,
    "studio": 13,
    "api": 13,  # the public Python API: only the command line may know it
    "cli": 14,
}
PUBLIC = {f"open_ldm.{name}" for name in open_ldm.__all__ if name != "__version__"}
RESOURCES = {"recipes", "demo_models"}  # packaged YAML and weights, no code
FILE_LINES = 320
FUNCTION_LINES = 60


def modules(source: Path) -> list[Path]:
    return sorted(source.rglob("*.py"))


def imported(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, also inside functions; `package` resolves relative ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from open_ldm import training` names a package in its second half.
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "open_ldm" else [module]
            yield from ((node.lineno, name) for name in names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def wrong_imports(source: Path) -> list[str]:
    found = []
    for path in modules(source):
        parts = path.relative_to(source).with_suffix("").parts
        if len(parts) == 1:
            continue  # open_ldm/__init__.py and __main__.py belong to no floor
        here = parts[0]
        for line, module in imported(ast.parse(path.read_text(encoding="utf-8")), ("open_ldm", *parts[:-1])):
            names = ["open_ldm", "api"] if module in PUBLIC else module.split(".")  # its names are the API's
            if names[0] != "open_ldm" or len(names) < 2 or names[1] == here or names[1] not in FLOORS:
                continue
            if FLOORS[names[1]] >= FLOORS.get(here, -1):
                way = "sideways" if FLOORS[names[1]] == FLOORS.get(here, -1) else "upwards"
                found.append(f"{path.relative_to(source)}:{line} imports {module}: {way}")
    return found


def too_long(source: Path) -> list[str]:
    found = []
    for path in modules(source):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(source)
        if (lines := len(text.splitlines())) > FILE_LINES:
            found.append(f"{name} has {lines} lines, more than {FILE_LINES}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found.append(f"{name}:{node.lineno} {node.name} has {length} lines, more than {FUNCTION_LINES}")
    return found


def circles(source: Path) -> list[str]:
    """Files that import one another in a loop, each loop once; an __init__.py only hands names on and does not count."""
    files = {".".join(("open_ldm", *path.relative_to(source).with_suffix("").parts)): path for path in modules(source)}
    arrows: dict[str, set[str]] = {}
    for name, path in files.items():
        tree, package = ast.parse(path.read_text(encoding="utf-8")), tuple(name.split(".")[:-1])
        arrows[name] = {module for _, module in imported(tree, package) if module in files and module != name}
        for node in ast.walk(tree):  # `from open_ldm.pages import charts` names a file in its second half
            if isinstance(node, ast.ImportFrom) and not node.level:
                arrows[name] |= {full for alias in node.names if (full := f"{node.module}.{alias.name}") in files}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(arrows[start])
        while waiting:
            if (name := waiting.pop()) not in seen:
                seen.add(name)
                waiting += arrows[name]
        return seen

    in_a_loop = {name: reach for name in files if name in (reach := reached(name))}
    loops = {tuple(sorted(other for other in reach if name in in_a_loop.get(other, ()))) for name, reach in in_a_loop.items()}
    return sorted(", ".join(loop) for loop in loops)


def test_no_files_import_one_another_in_a_circle() -> None:
    assert not (found := circles(SOURCE)), "\n" + "\n".join(found)


def test_the_check_sees_a_circle(tmp_path: Path) -> None:
    for name, code in {
        "a": "from open_ldm.pages.b import x",
        "b": "def f():\n    from open_ldm.pages import c",
        "c": "if True:\n    from open_ldm.pages.a import y",
        "d": "from open_ldm.pages.a import z",
    }.items():
        (tmp_path / "pages").mkdir(exist_ok=True)
        (tmp_path / "pages" / f"{name}.py").write_text(code)
    assert circles(tmp_path) == ["open_ldm.pages.a, open_ldm.pages.b, open_ldm.pages.c"]


def test_imports_point_down() -> None:
    assert not (found := wrong_imports(SOURCE)), "\n" + "\n".join(found)


def test_files_and_functions_are_small() -> None:
    assert not (found := too_long(SOURCE)), "\n" + "\n".join(found)


def test_every_package_has_a_floor() -> None:
    packages = {path.name for path in SOURCE.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert packages - RESOURCES <= set(FLOORS)


@pytest.mark.parametrize(
    ("file", "code", "way"),
    [
        ("data/x.py", "from open_ldm.training.loop import run", "upwards"),
        ("data/x.py", "def f():\n    import open_ldm.model", "upwards"),
        ("training/x.py", "from open_ldm import sampling", "sideways"),
        ("training/deep/x.py", "from ...sampling import euler", "sideways"),
        ("process/x.py", "import importlib\nimportlib.import_module('open_ldm.text')", "sideways"),
        ("core/x.py", "if False:\n    from open_ldm.data.sample import Batch", "upwards"),
        ("runs/x.py", "from open_ldm import train", "upwards"),
        ("studies/x.py", "from open_ldm.api.run import Run", "sideways"),
        ("cli/x.py", "from open_ldm import __version__, train\nfrom open_ldm.api.run import Run", None),
        ("sources/x.py", "from open_ldm.data.sample import Sample\nfrom . import y\nfrom ..order import z", None),
        ("cli/x.py", "from open_ldm.core.errors import OpenLdmError\nimport torch", None),
    ],
)
def test_the_check_sees_wrong_imports(tmp_path: Path, file: str, code: str, way: str | None) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    found = wrong_imports(tmp_path)
    assert (len(found) == 1 and found[0].endswith(way)) if way else found == []


def test_the_check_sees_what_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * (FILE_LINES + 1))
    (tmp_path / "b.py").write_text("def f():\n" + "    x = 1\n" * FUNCTION_LINES)
    (tmp_path / "c.py").write_text("def f():\n" + "    x = 1\n" * (FUNCTION_LINES - 1))
    assert [line.split(" has")[0] for line in too_long(tmp_path)] == ["a.py", "b.py:1 f"]
