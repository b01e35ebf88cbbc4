"""The folders at the top of a data set, which may be its classes, and the pictures outside them, which then make them none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from open_ldm.core.counted import counted
from open_ldm.core.errors import shortened
from open_ldm.data.sample import printable

_MOST_NAMED = 3


@dataclass(frozen=True)
class TopFolders:
    """The folders that would be the classes of a data set if no picture lay outside them.

    Attributes:
        inside: The folder they lie in, relative to the data set and with a slash at its end; '' where that is its top.
        names: Their names, sorted.
        pictures: The pictures in them, relative to `inside`.
        loose: The pictures that lie in none of them, relative to the data set.
    """

    inside: str
    names: tuple[str, ...]
    pictures: tuple[str, ...]
    loose: tuple[str, ...]

    @property
    def are_classes(self) -> bool:
        """Whether there are two or more, and every picture lies in one of them."""
        return len(self.names) > 1 and not self.loose

    def words(self) -> str:
        """Say why the folders are no classes, where that is only for the pictures outside them; else ''."""
        if len(self.names) < 2 or not self.loose:
            return ""
        folders = printable(shortened([f"{self.inside}{name}" for name in self.names], _MOST_NAMED))
        lie = counted(len(self.loose), "picture lies", "pictures lie")
        return f"the folders {folders} are no classes while {lie} outside them: {self.loose_words()}"

    def loose_words(self) -> str:
        """Name the first of the pictures outside the folders."""
        return printable(shortened(self.loose, _MOST_NAMED))


def top_folders(pictures: Sequence[str]) -> TopFolders:
    """Find the first level at which pictures lie in two or more folders, as if there were no picture outside them.

    Args:
        pictures: Their names relative to the data set, with forward slashes.
    """
    inside, left = "", pictures
    loose: list[str] = []
    while True:
        start = len(inside)
        loose += [name for name in left if "/" not in name[start:]]
        left = [name for name in left if "/" in name[start:]]
        tops = {name[start:].partition("/")[0] for name in left}
        if len(tops) != 1:
            return TopFolders(inside, tuple(sorted(tops)), tuple(name[start:] for name in left), tuple(loose))
        inside += f"{tops.pop()}/"
