"""What some sources know of their samples without reading them, and what they want to know before they read."""

from __future__ import annotations

from collections.abc import Callable

from open_ldm.data.permutation import Indices
from open_ldm.data.sample import Source


def stored_digests(source: Source, indices: Indices) -> bytes | None:
    """Return the digests of samples, 16 bytes each, where a source has them without reading a picture; otherwise None."""
    find: Callable[[Indices], bytes | None] | None = getattr(source, "stored_digests", None)
    return None if find is None else find(indices)


def hold_out_numbers(source: Source, seed: int) -> Indices | None:
    """Return the number of each sample that a hold-out compares with its share, where a source has them; otherwise None."""
    find: Callable[[int], Indices | None] | None = getattr(source, "hold_out_numbers", None)
    return None if find is None else find(seed)


def expect_streams(source: Source, streams: int) -> None:
    """Tell a source that its samples will be read as so many streams side by side, each through neighbours."""
    tell: Callable[[int], None] | None = getattr(source, "expect_streams", None)
    if tell is not None:
        tell(streams)
