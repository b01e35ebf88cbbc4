"""Libraries that only some tasks need. They are installed by extras of the distribution: `pip install 'open-ldm[text]'`."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from open_ldm.core.errors import ConfigError

DISTRIBUTION = "open-ldm"


class MissingExtraError(ConfigError):
    """A library of an extra is not installed; the message says the pip command that installs it."""


def need(module: str, *, extra: str) -> Any:
    """Import an optional library where it is first used.

    Args:
        module: Name to import, such as "diffusers" or "transformers.utils".
        extra: The extra of this distribution that installs it, as pyproject.toml lists it.

    Returns:
        The module.

    Raises:
        MissingExtraError: The library is not installed.
        ImportError: The library is installed, but something that it imports itself is not.
    """
    library = module.partition(".")[0]
    try:
        importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise _missing(library, extra) from error
    return importlib.import_module(module)


def require(module: str, *, extra: str) -> None:
    """Raise MissingExtraError where the library of `module` is not installed; nothing is imported. Arguments as `need`."""
    if importlib.util.find_spec(library := module.partition(".")[0]) is None:
        raise _missing(library, extra)


def _missing(library: str, extra: str) -> MissingExtraError:
    return MissingExtraError(
        f"{library} is not installed",
        needed=f"the extra [{extra}] of {DISTRIBUTION}",
        fix=f"pip install '{DISTRIBUTION}[{extra}]'",
    )
