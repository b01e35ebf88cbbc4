"""Finding the tar shards that a path, a pattern or WebDataset's braces name."""

from __future__ import annotations

import fnmatch
import glob
import re
from dataclasses import dataclass
from pathlib import Path

from open_ldm.core.errors import DataError
from open_ldm.core.files import relative_path_hint
from open_ldm.sources.files import NoSuchPath, moved
from open_ldm.sources.network import NetworkError, NotThereError, RemoteConfig, check_address, is_remote, shown
from open_ldm.sources.storage import LocalFiles, RemoteFiles, Storage

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_NAMES = 1_000_000
_PATTERN = re.compile(r"[*?\[{]")


@dataclass(frozen=True)
class LocatedShards:
    """The storage of shards, and their paths: where they are, or would be once fetched."""

    storage: Storage
    shards: list[Path]


def is_pattern(name: str) -> bool:
    """Tell whether a name may stand for several."""
    return _PATTERN.search(name) is not None


def locate_shards(path: str, remote: RemoteConfig) -> LocatedShards:
    """Find the shards that a path on this machine, or an address, names.

    Args:
        path: As `find_shards`; or such an address, whose pattern is in its last part.
        remote: How what an address names is read.

    Raises:
        NoSuchPath: Nothing is there.
        DataError: The folder has no shards, or cannot be listed.
        ConfigError: The address cannot be read.
    """
    if not is_remote(path):
        return LocatedShards(LocalFiles(), find_shards(path))
    check_address(path)
    folder, _, last = path.rstrip("/").rpartition("/")
    if not last.lower().endswith(".tar"):
        folder, last = path.rstrip("/"), "*.tar"
    if is_pattern(folder):
        raise NoSuchPath(f"{shown(path)} has a pattern in a folder's name", needed="a pattern in the last part of an address")
    storage = RemoteFiles(folder, remote)
    wanted = _expanded(last)
    names = wanted
    if any(is_pattern(name) for name in wanted):
        listed = _listed(storage, path)
        names = sorted({name for pattern in wanted for name in fnmatch.filter(listed, pattern)})
    if not names:
        raise NoSuchPath(f"data.source.path {shown(path)} matches no file", needed=".tar files", fix="check the address")
    return LocatedShards(storage, [storage.folder / name for name in names])


def _listed(storage: RemoteFiles, path: str) -> list[str]:
    try:
        return sorted(storage.network.names())
    except NotThereError:
        raise NoSuchPath(f"data.source.path {shown(path)} does not exist", needed="a folder", fix="check the address") from None
    except NetworkError as error:
        fix = "check the network; where folders cannot be listed, name the shards, as in train-{000..099}.tar"
        raise DataError(f"{error}: it cannot be listed", fix=fix) from None


def find_shards(path: str) -> list[Path]:
    """Return the shards of a folder, a file, or a pattern, sorted. What exists is never taken for a pattern.

    Raises:
        NoSuchPath: Nothing is there, or one of the files that braces name is missing.
        DataError: The folder has no shards.
    """
    given = Path(path).expanduser()
    if given.is_dir():
        shards = sorted(file for file in given.iterdir() if file.suffix.lower() == ".tar")
        if not shards:
            raise DataError(f"{path} contains no .tar files", fix=_instead(given))
        return shards
    if given.is_file():
        return [given]
    folder, rest = _existing_folder(given)
    wanted = _expanded(rest)
    found = {name: _matches(folder, name) for name in wanted}
    shards = sorted({match for matches in found.values() for match in matches if match.is_file()})
    absent = next((name for name, matches in found.items() if not matches), None)
    if not shards or (absent is not None and len(wanted) > 1):
        only = f", {absent} for one" if shards else ""
        raise NoSuchPath(
            f"data.source.path {path} matches no file{only}",
            needed=f".tar files, a folder of them or data/train-*.tar{relative_path_hint(path)}",
            fix=moved(path),
        )
    return shards


def _instead(folder: Path) -> str:
    """Say what would read a folder that has no shards of its own."""
    if any(file.name.lower().endswith((".tar.gz", ".tgz")) for file in folder.iterdir()):
        return "unpack the .gz files with gunzip: in compressed shards nothing can be found at random"
    if below := sorted({file.parent for file in folder.glob("*/*.tar")}):
        first = next((one for one in below if one.name.lower().startswith("train")), below[0])
        return f"data.source.path={first}, or {folder}/*/*.tar for all of them"
    return "for pictures in single files use source.kind=folder"


def _existing_folder(path: Path) -> tuple[str, str]:
    """Split a path behind the last folder that exists, whose [ ] * ? and braces are no pattern."""
    parts = path.parts
    count = next((count for count in range(len(parts) - 1, 0, -1) if Path(*parts[:count]).is_dir()), 0)
    return str(Path(*parts[:count])) if count else "", str(Path(*parts[count:]))


def _matches(folder: str, pattern: str) -> list[Path]:
    whole = str(Path(glob.escape(folder), pattern)) if folder else pattern
    return [Path(name) for name in glob.glob(whole, recursive=True)]  # noqa: PTH207 - takes absolute patterns


def _expanded(text: str) -> list[str]:
    """Expand {00000..00009} and {a,b} as WebDataset does; other braces stay."""
    names = [""]
    at = 0
    for brace in _BRACES.finditer(text):
        choices = _choices(brace[1])
        between = text[at : brace.start()]
        if choices is None or len(names) * len(choices) > _MOST_NAMES:
            choices = [brace[0]]
        names = [name + between + choice for name in names for choice in choices]
        at = brace.end()
    return [name + text[at:] for name in names]


def _choices(inside: str) -> list[str] | None:
    if (ends := _RANGE.fullmatch(inside)) is not None:
        first, last = int(ends[1]), int(ends[2])
        if first <= last and last - first < _MOST_NAMES:
            return [f"{number:0{len(ends[1])}d}" for number in range(first, last + 1)]
    return inside.split(",") if "," in inside else None
