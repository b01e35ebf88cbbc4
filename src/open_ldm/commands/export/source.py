"""The source files that an exported model needs, generated from this package: the sampler and everything it imports."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import open_ldm
from open_ldm.core.errors import ConfigError

_PACKAGE = "open_ldm"
_ROOT = "open_ldm.portable.sampler"
_FOLDER = Path(open_ldm.__file__).parent
_IMPORT = re.compile(rf"^(\s*(?:from|import)\s+){_PACKAGE}(?=[.\s])", re.MULTILINE)


def write_source(folder: Path) -> str:
    """Write the package that a model is sampled by.

    Args:
        folder: Where it is written; it must not exist.

    Returns:
        The name by which it is imported, with a hash of its content: several versions can be loaded side by side.
    """
    modules = {name: _FOLDER.parent.joinpath(path) for name, path in _needed().items()}
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules.items()}
    digest = hashlib.sha256("\0".join(f"{name}\0{texts[name]}" for name in sorted(texts)).encode()).hexdigest()[:12]
    package = f"{_PACKAGE}_source_{digest}"
    note = f"# Generated from open-ldm {open_ldm.__version__}. Copyright: the open-ldm authors. Apache-2.0, see LICENSE.\n"
    for name, text in texts.items():
        inside = modules[name].relative_to(_FOLDER)
        for parent in inside.parents:  # packages of one floor have an __init__.py each, empty or not
            init = folder / parent / "__init__.py"
            if not init.exists():
                init.parent.mkdir(parents=True, exist_ok=True)
                init.write_text(note, encoding="utf-8")
        (folder / inside).write_text(note + _IMPORT.sub(rf"\g<1>{package}", text), encoding="utf-8")
    (folder / "__init__.py").write_text(f'{note}__version__ = "{open_ldm.__version__}"\n', encoding="utf-8")
    (folder / "LICENSE").write_text(licence(), encoding="utf-8")
    return package


def licence() -> str:
    """Return the text of this program's licence. Raises ConfigError where its files are not complete."""
    with suppress(PackageNotFoundError, OSError):  # a checkout that is not installed has the file beside its sources
        for file in distribution("open-ldm").files or ():
            if file.name == "LICENSE":
                return file.read_text(encoding="utf-8")
    beside = _FOLDER.parents[1] / "LICENSE"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    raise ConfigError(
        "the licence of open-ldm is not here", needed="a whole installation", fix="pip install --force-reinstall open-ldm"
    )


@cache
def _needed() -> dict[str, Path]:
    """The modules that the sampler imports, directly or not, also inside functions: name to path below the package's parent."""
    found: dict[str, Path] = {}
    waiting = [_ROOT]
    while waiting:
        parts = waiting.pop().split(".")
        for end in range(2, len(parts) + 1):
            name = ".".join(parts[:end])
            if name not in found and (path := _file_of(name)) is not None:
                found[name] = path.relative_to(_FOLDER.parent)
                waiting += _imported(path)
    return found


def _file_of(module: str) -> Path | None:
    place = _FOLDER.parent.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{_PACKAGE}."):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(f"{_PACKAGE}."))
