"""What the pictures of a source are, byte for byte: names for caches and references that must not outlive a change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError
from open_ldm.data.sample import BadPicture, Source
from open_ldm.data.survey import spread

_SAMPLED = 64


def content_hash(
    source: Source,
    indices: Sequence[int] | None = None,
    *,
    world: World | None = None,
    on_pictures: Callable[[int], None] = lambda done: None,
) -> str:
    """Hash of the pictures at `indices` (all by default): what the index says of the source's pictures, and the bytes of these,
    in that order. Equal on every machine.

    Every byte is read, once: the processes of a `world` share the work, and what did not change since is remembered (see
    sources/digests.py). `on_pictures` is told how many of its share this process has done. Raises DataError for a picture
    that cannot be read: nothing can be named after it.
    """
    world = world or World()
    wanted = range(len(source)) if indices is None else indices
    bounds = [rank * len(wanted) // world.size for rank in range(world.size + 1)]
    share = wanted[bounds[world.rank] : bounds[world.rank + 1]]
    pairs = list(zip(share, source.digests(share, on_pictures), strict=True))
    lost = [(source.sample_id(index), one.reason, one.detail) for index, one in pairs if isinstance(one, BadPicture)]
    digests = b"".join(one for _, one in pairs if isinstance(one, bytes))
    joined = hashlib.blake2b(repr((source.hashes.pictures, len(wanted))).encode(), digest_size=16)
    for part, lost_there in world.gathered((digests, lost[:1])):  # all hear of a lost picture: none waits for one that gave up
        for sample_id, reason, detail in lost_there:
            raise unreadable(sample_id, BadPicture(reason, detail, of_disk=True))
        joined.update(part)
    return joined.hexdigest()


def fingerprint_of(source: Source) -> str:
    """Hash of a source's index, and of the content of at most 64 pictures spread over it, which costs little at any size.

    New names, labels or captions change it, and so does another version of the data set; a few pictures edited among many
    thousands may not. Pictures that cannot be read count by their reason.
    """
    digests = source.digests(spread(len(source), _SAMPLED), lambda done: None)
    seen = [digest.reason.encode() if isinstance(digest, BadPicture) else digest for digest in digests]
    return hashlib.blake2b(repr((source.fingerprint, seen)).encode(), digest_size=16).hexdigest()


def unreadable(sample_id: str, verdict: BadPicture) -> DataError:
    """The error for a picture that the disk did not give, where leaving it out would be remembered."""
    return DataError(
        f"picture {sample_id} cannot be read now ({verdict})",
        needed="every picture readable, since what is made of them is kept",
        fix="run the same command again once the disk and its permissions are well, or take the file out of the data",
    )
