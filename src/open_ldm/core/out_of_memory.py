"""Lack of memory as an error that names what asked for it and the setting that needs less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from open_ldm.core.errors import OutOfMemoryError, cut, exit_code_of


@contextmanager
def naming_lack_of_memory(what: str, fix: Callable[[], str]) -> Iterator[None]:
    """Context manager whose lack of memory, of a device or of the machine, becomes an error with a fix.

    An error that was named inside stays as it is.

    Args:
        what: Follows "out of memory", such as "with micro-batches of 8".
        fix: Gives the fix when it is needed.

    Raises:
        OutOfMemoryError: There was not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if exit_code_of(error) != OutOfMemoryError.exit_code:
            raise
        said = cut(" ".join(str(error).split()))
        raise OutOfMemoryError(f"out of memory {what} ({said})", fix=fix()) from error
