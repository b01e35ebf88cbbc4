"""What a recipe needs that this machine does not have."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from open_ldm.core.device import choose_device
from open_ldm.core.errors import ConfigError, escaped
from open_ldm.training.settings import TrainingConfig


def absent_device(training: TrainingConfig) -> list[str]:
    """Return why the recipe's device cannot be used here, in at most one line."""
    try:
        choose_device(training.device, training.dtype)
    except ConfigError as error:
        return [error.problem]
    return []


def code_of_absent(absent: Sequence[str], *, elsewhere: bool) -> int:
    """Say on standard error what is not here, and return the exit code of a dry run: 65, or 0 where that is all right.

    Args:
        absent: What is not here, one line each.
        elsewhere: The recipe is meant for another machine.
    """
    if not absent or elsewhere:
        return 0
    lacks = escaped("; ".join(absent)[:200])
    print(f"error: it would not train here: {lacks}; fix: --elsewhere, for another machine", file=sys.stderr)
    return 65
