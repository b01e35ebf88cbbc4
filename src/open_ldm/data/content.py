"""Hashes of the pictures of a source, byte for byte, which name caches and references: a changed picture changes the name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from open_ldm.core.distributed import World
from open_ldm.data.columns import columns_of
from open_ldm.data.sample import BadPicture, Source, unreadable
from open_ldm.data.stored import stored_digests
from open_ldm.data.survey import spread

_SAMPLED = 64
_AT_ONCE = 1 << 17


def content_hash(
    source: Source,
    indices: Sequence[int] | None = None,
    *,
    world: World | None = None,
    on_pictures: Callable[[int], None] = lambda done: None,
) -> str:
    """Compute a hash of a source's pictures, which is equal on every machine.

    It covers the source's index of pictures and the bytes of those at `indices`. Every byte is read once: the processes of a
    `world` share the work, and pictures that did not change since are remembered (see sources/digests.py).

    Args:
        source: The data set.
        indices: Indices of the pictures, whose order counts; all by default.
        world: The processes that work together.
        on_pictures: Called with the number of pictures of its share that this process has done.

    Raises:
        DataError: A picture cannot be read.
    """
    world = world or World()
    wanted = range(len(source)) if indices is None else indices
    bounds = [rank * len(wanted) // world.size for rank in range(world.size + 1)]
    joined = hashlib.blake2b(repr((source.hashes.pictures, len(wanted))).encode(), digest_size=16)
    if world.size == 1 and (stored := _hash_of_stored(source, wanted, joined.copy())) is not None:
        return stored
    digests, lost = _digests_of(source, wanted[bounds[world.rank] : bounds[world.rank + 1]], on_pictures)
    # Every process raises, so none waits for another.
    for part, lost_there in world.gathered((digests, lost[:1]), "hashes of pictures"):
        for sample_id, reason, detail in lost_there:
            raise unreadable(sample_id, BadPicture(reason, detail, of_disk=True))
        joined.update(part)
    return joined.hexdigest()


def _digests_of(
    source: Source, share: Sequence[int], on_pictures: Callable[[int], None]
) -> tuple[bytes, list[tuple[str, str, str]]]:
    """The digests of samples, stored ones or of pictures that are read, and those that cannot be read: id, reason, detail."""
    stored = stored_digests(source, np.asarray(share, dtype=np.int64))
    if stored is not None:
        return stored, []
    pairs = list(zip(share, source.digests(share, on_pictures), strict=True))
    lost = [
        (source.sample_id(index), digest.reason, digest.detail) for index, digest in pairs if isinstance(digest, BadPicture)
    ]
    return b"".join(digest for _, digest in pairs if isinstance(digest, bytes)), lost


def _hash_of_stored(source: Source, wanted: Sequence[int], joined: Any) -> str | None:
    """Add to a hash the digests that a source has without reading pictures; None where it lacks one."""
    for start in range(0, len(wanted), _AT_ONCE):
        digests = stored_digests(source, np.asarray(wanted[start : start + _AT_ONCE], dtype=np.int64))
        if digests is None:
            return None
        joined.update(digests)
    return str(joined.hexdigest())


def read_fingerprint(source: Source, columns: Sequence[str] = ()) -> str:
    """Compute a hash of a source's index and of at most 64 pictures spread over it, which is cheap at any size.

    New names, labels or captions change it, and so does another version of the data set. A few edited pictures among many
    thousands may not. Pictures that cannot be read count by their reason. All values of `columns` of metadata count.
    """
    digests = source.digests(spread(len(source), _SAMPLED), lambda done: None)
    seen = [digest.reason.encode() if isinstance(digest, BadPicture) else digest for digest in digests]
    values = columns_of(source).hash_of(columns)
    said = (source.fingerprint, seen, values) if values else (source.fingerprint, seen)
    return hashlib.blake2b(repr(said).encode(), digest_size=16).hexdigest()
