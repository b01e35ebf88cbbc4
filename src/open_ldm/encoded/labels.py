"""The labels that a model uses for the classes of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from open_ldm.core.errors import DataError, shortened


def vanished_classes(known: Sequence[str], found: Sequence[str]) -> list[str]:
    """Say, in one line, which classes of a model no picture of a data set has any more; nothing where all are there."""
    gone = [name for name in known if name not in set(found)] if found else []
    many = "es" if len(gone) > 1 else ""
    return (
        [f"the data has no picture any more of class{many} {shortened(gone, 5)}, which the run goes on knowing"] if gone else []
    )


def order_labels(known: Sequence[str], found: Sequence[str]) -> Tensor:
    """Find a model's label for each class of a data set: classes that come or go must not shift the labels of others.

    Args:
        known: Names of the model's classes in the order of their labels.
        found: Names of the data set's classes.

    Returns:
        Labels [len(found)], int64.

    Raises:
        DataError: The data set has classes that the model does not know.
    """
    if unknown := [name for name in found if name not in known]:
        raise DataError(
            f"the data has classes that this run was not started with: {shortened(unknown, 4)}",
            needed=f"the classes {shortened(known, 8)}",
            fix="remove these classes, or start a new run with another --out",
        )
    return torch.tensor([known.index(name) for name in found], dtype=torch.long)
