"""Opening a table of the library `datasets`: a hub name, parquet or arrow files, or what `save_to_disk` wrote."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from open_ldm.core.errors import ConfigError, DataError, OpenLdmError, nearest, shortened
from open_ldm.core.extras import need
from open_ldm.core.plain_data import parse_json
from open_ldm.data.sample import printable
from open_ldm.sources.files import NoSuchPath, moved

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_SHARD = re.compile(r"(?P<split>.+)-\d{5}-of-\d{5}")
_WORDS = re.compile(r"[^-._ 0-9]+")
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"
_CONFIGS = re.compile(r"\A---\s.*?^configs:.*?^---\s*$", re.MULTILINE | re.DOTALL)
_MOST_LETTERS = 160
TABLE_SUFFIXES = (".parquet", ".arrow")


@dataclass(frozen=True)
class Opener:
    """Opens one split.

    Attributes:
        rows: Opens all of it, as a `datasets.Dataset`.
        files: The arrow files that hold its rows, in order, where they are known before anything is opened.
        info: Reads what a folder says of its columns, as `datasets.DatasetInfo`; None where it says nothing.
    """

    rows: Callable[[], Any]
    files: tuple[Path, ...] = ()
    info: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class HubTable:
    """One split of a table. Nothing is opened before it is asked for.

    Attributes:
        path: As it was given, for messages.
        opener: Opens it.
        folder: What paths in it are relative to.
        split: Its name.
        words: What it is.
    """

    path: str
    opener: Opener
    folder: Path | None
    split: str
    words: str

    @cached_property
    def rows(self) -> Any:
        """All rows, as a `datasets.Dataset`. Raises DataError where they cannot be read."""
        with _read_errors(self.path):
            return self.opener.rows().with_format(None)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The arrow files behind the rows, in order; none where rows lie in memory."""
        return self.opener.files or tuple(Path(file["filename"]) for file in self.rows.cache_files)

    @cached_property
    def features(self) -> Any:
        """The types of the columns, from the first arrow file alone where it is known. Raises DataError as `rows`."""
        if not self.opener.files:
            return self.rows.features
        with _read_errors(self.path):
            datasets = need("datasets", extra="data")
            return datasets.Dataset.from_file(str(self.files[0]), info=self.opener.info()).features


def open_table(path: str, *, split: str | None, subset: str | None, revision: str | None) -> HubTable:
    """Find one split of a table. What exists on the disk is never taken for a hub name or a pattern, and needs no network.

    Raises:
        ConfigError: There is no such data, split or subset.
        DataError: The files cannot be read.
        MissingExtraError: The library is not installed.
    """
    datasets = need("datasets", extra="data")
    given = Path(path).expanduser()
    if not given.exists():
        return _from_hub(datasets, path, split, subset, revision)
    if revision is not None:
        raise ConfigError(
            f"data.source.revision={revision} has no effect on local data", needed="a hub name", fix="leave it out"
        )
    splits, words = _local(datasets, given, subset)
    name = _chosen(list(splits), split, path)
    return HubTable(path, splits[name], given if given.is_dir() else given.parent, name, words)


Openers = Mapping[str, Opener]
"""What opens each split."""


def is_table(path: Path) -> bool:
    """Tell whether what lies at a path is a table of this kind, and no shards: arrow or parquet files, or of `save_to_disk`."""
    if path.is_file():
        return path.suffix.lower() in TABLE_SUFFIXES
    if not path.is_dir() or any(path.glob("*.tar")):
        return False
    saved = (path / _SAVED).is_file() or (path / _SAVED_SPLITS).is_file()
    tables = (file for ending in TABLE_SUFFIXES for file in path.rglob(f"*{ending}"))
    return saved or any(file.name.lower() != "metadata.parquet" for file in tables)


def is_hub_name(given: str) -> bool:
    """Tell whether a text may be the name of a data set of the hub, OWNER/NAME: nothing of that name lies here."""
    return "/" in given and _HUB_NAME.fullmatch(given) is not None and not Path(given).exists()


def _local(datasets: Any, given: Path, subset: str | None) -> tuple[Openers, str]:
    if given.is_dir() and (given / "README.md").is_file() and _CONFIGS.match(_text(given / "README.md")):
        with _read_errors(str(given)):
            opened = datasets.load_dataset(str(given), name=subset)
        return {str(name): Opener(partial(opened.__getitem__, name)) for name in opened}, "folder of a hub data set"
    if subset is not None:
        raise ConfigError(f"data.source.subset={subset}: {printable(str(given))} names no subsets", fix="leave it out")
    if given.is_file():
        return {"train": _opener(datasets, [given])}, f"1 {_kind_of(given)} file"
    saved = [given] if (given / _SAVED).is_file() else sorted(file.parent for file in given.glob(f"*/{_SAVED}"))
    if saved:
        openers = {("train" if folder == given else folder.name): _saved_opener(datasets, folder) for folder in saved}
        return openers, "saved by save_to_disk"
    return _files(datasets, given)


def _files(datasets: Any, root: Path) -> tuple[Openers, str]:
    """Find the files of a folder and their splits, as the library names them; no file is left out."""
    found = [
        file
        for ending in TABLE_SUFFIXES
        for file in sorted(root.rglob("*"))
        if file.suffix.lower() == ending
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
    ]
    where = printable(str(root))
    if not found:
        tars = next(root.glob("*.tar"), None)
        fix = f"data.source.kind={'shards' if tars else 'folder'}, for {'tar files' if tars else 'pictures in single files'}"
        raise DataError(f"{where} contains no parquet or arrow files and nothing of save_to_disk", fix=fix)
    if len({_kind_of(file) for file in found}) > 1:
        raise DataError(f"{where} contains both .parquet and .arrow files", fix="give the path of one kind of them")
    names = [_split_of(file.relative_to(root)) for file in found]
    if not any(names):
        names = ["train"] * len(found)
    without = next((file for file, name in zip(found, names, strict=True) if not name), None)
    if without is not None:
        raise DataError(
            f"{where}: {printable(str(without.relative_to(root)))} belongs to no split, while others do",
            needed=f"names such as {_SPLITS['train'][0]}-00000-of-00001.parquet for all files",
            fix="rename it, or give the path of the files to read",
        )
    by_split: dict[str, list[Path]] = {}
    for file, name in zip(found, names, strict=True):
        by_split.setdefault(str(name), []).append(file)
    words = f"{len(found):,} {_kind_of(found[0])} file{'s' if len(found) > 1 else ''}"
    return {name: _opener(datasets, files) for name, files in by_split.items()}, words


def _split_of(name: Path) -> str | None:
    """Return the split that a file's name says: SPLIT-00000-of-00001, or a word such as train in its name or its folders."""
    if (shard := _SHARD.fullmatch(name.stem)) is not None:
        return shard["split"]
    words = {word for part in (*name.parts[:-1], name.stem) for word in _WORDS.findall(part.lower())}
    return next((split for split, known in _SPLITS.items() if words & set(known)), None)


def _kind_of(file: Path) -> str:
    if file.suffix.lower() not in TABLE_SUFFIXES:
        raise ConfigError(
            f"source.path {printable(str(file))} is no table", needed=".parquet or .arrow, or a folder of such files"
        )
    return file.suffix.lower()[1:]


def _saved_opener(datasets: Any, folder: Path) -> Opener:
    """What `save_to_disk` wrote names its arrow files; a folder whose state cannot be read is left to the library to refuse."""
    try:
        files = tuple(folder / item["filename"] for item in parse_json((folder / _SAVED).read_bytes())["_data_files"])
    except (OSError, ValueError, KeyError, TypeError):
        files = ()
    return Opener(
        lambda: datasets.load_from_disk(str(folder)),
        files,
        lambda: datasets.DatasetInfo.from_directory(str(folder)),
    )


def _opener(datasets: Any, files: Sequence[Path]) -> Opener:
    """Arrow files are mapped as they are; parquet is written once as arrow into the library's cache, and mapped from there."""
    if _kind_of(files[0]) == "arrow":
        return Opener(
            lambda: datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files]), tuple(files)
        )
    escaped = [glob.escape(str(file)) for file in files]  # the library would take [v2] in a path for a pattern
    return Opener(lambda: datasets.load_dataset("parquet", data_files={"train": escaped}, split="train"))


def _from_hub(datasets: Any, path: str, split: str | None, subset: str | None, revision: str | None) -> HubTable:
    if _HUB_NAME.fullmatch(path) is None:
        raise NoSuchPath(
            f"source.path {path} does not exist", needed="a local table, or a hub name OWNER/NAME", fix=moved(path)
        )
    try:
        opened = datasets.load_dataset(path, name=subset, revision=revision)
    except Exception as error:
        raise NoSuchPath(
            f"source.path {path}: no such local table, and as a hub name: {_first_line(error)}",
            needed="a parquet file, a folder, or a hub name that can be reached",
            fix="check the path and the network; with HF_HUB_OFFLINE=1 a hub data set that was loaded before is read again",
        ) from error
    name = _chosen([str(each) for each in opened], split, path)
    return HubTable(path, Opener(lambda: opened[name]), None, name, f"hub data set {path}")


def _chosen(splits: Sequence[str], split: str | None, path: str) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None:
        first = next((name for name in splits if name.startswith("train")), splits[0])
        raise ConfigError(
            f"{path} holds the splits {shortened(splits, 8)}", needed="one of them", fix=f"data.source.split={first}"
        )
    if split not in splits:
        raise ConfigError(f"data.source.split={split}: {path} has no such split", needed=nearest(split, splits))
    return split


@contextmanager
def _read_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (OpenLdmError, MemoryError):
        raise
    except Exception as error:  # the library's errors and those of pyarrow have no common base
        if type(error) is ValueError:  # an unknown subset
            raise ConfigError(f"{printable(path)}: {_first_line(error)}") from error
        cause = error.__cause__ or error
        raise DataError(f"{printable(path)} cannot be read: {_first_line(cause)}", fix="write or download it again") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0])[:_MOST_LETTERS]


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
