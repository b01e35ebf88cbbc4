"""Settings that a config got after files and hashes of it existed: at their defaults they are not written, so those stay."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel


def without_defaults(config: BaseModel, written: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Remove settings that have their default from a config's plain data.

    Args:
        config: The config.
        written: Its plain data.
        names: The settings that may be removed.

    Returns:
        The rest, in the same order.
    """
    fields = type(config).model_fields
    unset = {name for name in names if getattr(config, name) == fields[name].default}
    return {name: value for name, value in written.items() if name not in unset}
