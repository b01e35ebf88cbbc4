"""Which members of a tar shard belong to one sample, and what to say about those that belong to none.

A key is a member's name up to the last dot, and KEY.jpg, KEY.cls, KEY.txt and KEY.json are one sample. WebDataset ends a key at
the first dot of the base name. Both give the same samples unless names have further dots: then `0000.photo.png`,
`0000.mask.png` and `0000.txt` are one sample of two pictures, whereas `cat.v1.jpg` and `cat.v2.jpg` are two samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from open_ldm.core.counted import counted
from open_ldm.core.errors import DataError
from open_ldm.data.formats import counted_suffixes
from open_ldm.data.sample import printable

PICTURE = "picture"
ROLES = (PICTURE, ".cls", ".txt", ".caption", ".json")
_OTHER_KINDS = frozenset(
    [
        "mask",
        "masks",
        "seg",
        "segm",
        "segmentation",
        "label",
        "labels",
        "depth",
        "normal",
        "normals",
        "alpha",
        "matte",
        "edge",
        "edges",
        "canny",
        "pose",
        "annotation",
        "gt",
        "target",
        "thumb",
        "thumbnail",
        "preview",
        "heatmap",
        "saliency",
        "control",
        "condition",
    ]
)


class Span(NamedTuple):
    """Where a member's content is in its shard."""

    offset: int
    size: int


@dataclass
class Members:
    """The members of a shard by key and role, and those that have no role.

    Attributes:
        shard: The shard, for messages.
        suffixes: Suffixes of pictures, in lower case.
        picture: The one ending (after WebDataset's key) that is the sample's picture; null takes all suffixes of pictures.
        by_key: The members of each key, by role.
        ignored: Number of members that are not used, by suffix.
        merged: Number of WebDataset keys that stand for several samples here.
    """

    shard: Path
    suffixes: tuple[str, ...]
    picture: str | None = None
    by_key: dict[str, dict[str, Span]] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    merged: int = 0
    _ending: dict[str, str] = field(default_factory=dict)
    _roles: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, span: Span) -> None:
        """Take in one member, by its name without needless slashes. Raises DataError when its key has such a member already."""
        slash = name.rfind("/") + 1
        if self.picture is None:
            dot = name.rfind(".")
            dot = dot if slash < dot < len(name) - 1 else len(name)
        else:
            dot = name.find(".", slash)
            dot = dot if dot >= 0 else len(name)
        key, ending = name[:dot], name[dot:]
        role = self._roles.get(ending) or self._role(ending)
        if role not in ROLES:
            self.ignored[role] += 1
            return
        spans = self.by_key.get(key)
        if spans is None:
            spans = self.by_key[key] = {}
        if role in spans:
            self._refuse_two(key, role, ending.lower())
        if role == PICTURE:
            self._ending[key] = ending.lower()
        spans[role] = span

    def _role(self, ending: str) -> str:
        """Return what a member with this ending is to its sample; the ending in lower case where it is nothing."""
        lower = ending.lower() if self.picture is None else f".{ending[1:].lower()}"
        pictures = self.suffixes if self.picture is None else (f".{self.picture.lower().removeprefix('.')}",)
        role = self._roles[ending] = PICTURE if lower in pictures else lower
        return role

    def _refuse_two(self, key: str, role: str, ending: str) -> None:
        if role == PICTURE and self._ending[key] != ending:
            raise self._two_pictures(key, [self._ending[key], ending])
        what = "pictures" if role == PICTURE else f"{role} members"
        raise DataError(printable(f"shard {self.shard} contains two {what} for key {key}"), needed="one of each per key")

    def join(self) -> None:
        """Give what is named after WebDataset's key to its picture. Raises DataError when there are several pictures."""
        if self.picture is not None:
            return
        dotted: dict[str, list[str]] = {}
        for key, spans in self.by_key.items():
            if PICTURE in spans and "." in key and (short := _webdataset_key(key)) != key:
                dotted.setdefault(short, []).append(key)
        for short, keys in dotted.items():
            exact = self.by_key.get(short, {})
            endings = [self._ending_of(short, key) for key in keys]
            if PICTURE in exact:
                endings.append(self._ending[short])
            kinds = {key[len(short) + 1 :].lower() for key in keys}
            if len(endings) > 1 and (exact or kinds & _OTHER_KINDS):
                raise self._two_pictures(short, endings)
            if len(keys) > 1:
                self.merged += 1
            elif exact:
                own = self.by_key.pop(short)
                self.by_key[keys[0]] = {**own, **self.by_key[keys[0]]}

    def _ending_of(self, short: str, key: str) -> str:
        return key[len(short) :] + self._ending[key]

    def _two_pictures(self, key: str, endings: list[str]) -> DataError:
        endings = sorted(endings)
        count = "two" if len(endings) == 2 else len(endings)
        return DataError(
            printable(f"shard {self.shard} contains {count} pictures for key {key}: {', '.join(endings)}"),
            needed="the one to read",
            fix=f"data.source.picture={endings[-1].removeprefix('.')}",
        )


def _webdataset_key(key: str) -> str:
    folder, slash, base = key.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def ignored_words(ignored: Mapping[str, int], merged: int) -> str:
    """Say what is not used: '; 8 other members ignored: .heic 6, .xmp 2'; '' when nothing is."""
    words = ""
    if ignored:
        words += f"; {counted(sum(ignored.values()), 'other member')} ignored: {counted_suffixes(Counter(ignored))}"
    if merged:
        words += f"; {merged:,} times several keys differ only behind a dot, where WebDataset's reader sees one sample"
    return words
