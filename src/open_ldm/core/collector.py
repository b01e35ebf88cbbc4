"""Python's collector of cyclic garbage, held off while many small objects are made that all are kept."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_off() -> Iterator[None]:
    """Context manager or decorator in which no cyclic garbage is looked for.

    A hundred thousand new tuples and dictionaries have it look at all of them again and again, half the time of making them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
