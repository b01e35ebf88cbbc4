"""`ldm transfer`: a recipe that starts from the weights of another run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from open_ldm.core.errors import ConfigError
from open_ldm.core.overrides import require_given_once


def overrides_to_start_from(
    source: Path, overrides: Sequence[str] = (), *, allow: Sequence[str] = (), raw: bool = False
) -> list[str]:
    """Return the overrides that make a recipe start from `source`, with those given behind them.

    Args:
        source: A run folder, trained or imported, or one checkpoint inside it.
        overrides: Changes to the recipe; they may not name another source.
        allow: Tensors that may be new or dropped though the recipes give no reason; `*` fits any part of a name.
        raw: Start from the raw weights and not from the averaged ones.

    Raises:
        ConfigError: An override replaces the source, or what `allow` or `raw` say.
    """
    for override in overrides:
        if override.startswith(("init_from=", "init_from.source=")):
            raise ConfigError(
                f"{override} and SOURCE {source} both name a source", needed="one of them", fix=f"leave {override} out"
            )
    given = [f"init_from.source={source}"]
    if raw:
        given.append("init_from.weights=raw")
    if allow:
        given.append(f"init_from.allow={json.dumps(list(allow))}")
    for override in overrides:
        require_given_once([*given, override])
    return [*given, *overrides]
