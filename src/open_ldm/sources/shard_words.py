"""What is said of shards: what they hold, what of it is not read, and that they hold no pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from open_ldm.core.counted import counted
from open_ldm.core.errors import DataError, shortened
from open_ldm.sources.near_misses import near_columns
from open_ldm.sources.shard_index import ShardRules
from open_ldm.sources.shard_keys import ignored_words
from open_ldm.sources.shard_samples import ShardSamples


class NoPictureInShardsError(DataError):
    """Shards hold no picture, whatever else they hold."""


def shards_words(
    shards: int, samples: ShardSamples, classes: Sequence[str], rules: ShardRules, columns: Mapping[Any, str], labels: str
) -> str:
    """Write '2 tar shards; 3 keys without a picture ignored', with all that is not read.

    Args:
        shards: Number of shards.
        samples: Their samples.
        classes: Names of the classes.
        rules: How members are read.
        columns: The recipe's names of values in KEY.json.
        labels: What is to be said of the labels.
    """
    told = samples.told
    words = "1 tar shard" if shards == 1 else f"{shards:,} tar shards"
    words += f"; {counted(told.without_picture, 'key')} without a picture ignored" if told.without_picture else ""
    words += ignored_words(told.ignored, told.merged)
    words += f"; {labels}" if labels else ""
    known = {"text": samples.captioned, "label": classes}
    missing = [role for role, there in known.items() if not there and rules.column(role) not in told.names]
    near = near_columns(told.names, {str(role): name for role, name in columns.items()}, missing)
    words += f"; values in .json not read; to read them: {near}" if near else ""
    if told.folders > 1 and not classes:
        words += f"; {told.folders:,} folders in the shards, which are no classes"
    return words


def no_pictures(path: str, picture: str | None, suffixes: Sequence[str], ignored: Mapping[str, int]) -> NoPictureInShardsError:
    """Return the error for shards without a picture, which names what they hold instead."""
    endings = suffixes if picture is None else (f".{picture}",)
    found = shortened([suffix for suffix, _ in Counter(ignored).most_common()], 6)
    needed = f"members named KEY{shortened(endings)}" + (f"; found {found}" if found else "")
    return NoPictureInShardsError(f"{path} contains no pictures", needed=needed)
