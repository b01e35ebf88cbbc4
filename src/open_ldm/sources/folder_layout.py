"""Detecting how a folder holds its pictures: metadata, class folders or flat, with captions beside them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

from open_ldm.core.counted import counted
from open_ldm.core.errors import DataError, shortened
from open_ldm.data import pictures
from open_ldm.data.columns import NONE, Columns
from open_ldm.data.formats import unread_words
from open_ldm.data.health import BUDGET_SHARE
from open_ldm.data.sample import printable
from open_ldm.sources.captions import NOT_UTF8, CaptionMode, captions_in, decode_text
from open_ldm.sources.files import FoundFiles, find_files
from open_ldm.sources.labels import BAD_LABEL, NO_LABEL, read_class_names, resolve_labels
from open_ldm.sources.metadata import METADATA_FILES, read_metadata, stored_name
from open_ldm.sources.near_misses import near_tables
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.splits import refuse_splits
from open_ldm.sources.top_folders import top_folders

BAD_CAPTION = "unreadable caption file"
_SIDECARS = (".txt", ".caption")
_BY_IMG2DATASET = re.compile(r"(\d{5,})/\1\d{4,}\.")
"""SHARD/SHARDNUMBER.jpg, as it writes single files."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of the index; `name` opens its file.

    Attributes:
        name: File name relative to the folder.
        captions: Its captions.
        label: Its class: an index once labels are resolved.
        original_size: (height, width) that metadata give.
        fault: Why it cannot be used, known before reading, or empty.
        detail: What exactly is wrong, or empty for the name.
    """

    name: str
    captions: tuple[str, ...] = ()
    label: int | str | None = None
    original_size: tuple[int, int] | None = None
    fault: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Layout:
    """The detected layout: pictures in order, their class names, the layout in words, and the columns of the metadata."""

    root: Path
    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    words: str
    columns: Columns = field(default_factory=lambda: NONE)


def detect(root: Path, config: PictureFilesConfig, given: Path | None = None) -> Layout:
    """Detect the layout of a folder.

    Args:
        root: The folder.
        config: How its files are read.
        given: The folder that the user named, where `root` is a split in it.

    Raises:
        DataError: Its content cannot be used.
    """
    given = given or root
    found = find_files(root, config.suffixes)
    present = _metadata_in(found)
    while not present and (only := found.only_folder()) is not None:
        root = root / only
        found = find_files(root, config.suffixes)
        present = _metadata_in(found)
    where = printable(str(root))
    if len(present) > 1:
        raise DataError(f"{where} contains both {' and '.join(present)}", fix="keep one of them")
    if present:
        return _metadata_layout(root, found, present[0], config)
    if not found.pictures:
        raise _no_pictures(where, found, config)
    if config.columns:
        raise DataError(f"source.columns names columns, but {where} has no metadata", needed=shortened(METADATA_FILES))
    return _plain_layout(root, found, config.captions, given)


def _metadata_in(found: FoundFiles) -> list[str]:
    by_rank = [name for wanted in METADATA_FILES for name in found.others if name.lower() == wanted]
    return [printable(name) for name in by_rank]


def _no_pictures(where: str, found: FoundFiles, config: PictureFilesConfig) -> DataError:
    other = f" ({len(found.others):,} other files: {unread_words(found.others)})" if found.others else ""
    endings = {PurePosixPath(name).suffix.lower() for name in found.others}
    fix = ""
    if ".tar" in endings:
        fix = "data.source.kind=shards, for the tar files in it"
    elif endings & {".parquet", ".arrow"}:
        fix = "data.source.kind=huggingface, for the tables in it"
    return DataError(f"{where} contains no pictures{other}", needed=f"files ending in {shortened(config.suffixes, 8)}", fix=fix)


def _metadata_layout(root: Path, found: FoundFiles, file: str, config: PictureFilesConfig) -> Layout:
    stored = {*found.pictures, *found.others}
    metadata = read_metadata(root / file, {str(role): name for role, name in config.columns.items()})
    rows = sorted(((stored_name(row.file_name, stored), row) for row in metadata.rows), key=lambda pair: pair[0])
    entries = [Entry(name, row.captions, row.label, row.original_size) for name, row in rows]
    where = printable(str(root / file))
    if again := next((one.name for one, other in pairwise(entries) if one.name == other.name), None):
        raise DataError(
            f"{where} names {printable(again)} in two spellings",
            fix="keep one of its rows, with all captions of the picture in one list",
        )
    missing = [entry.name for entry in entries if entry.name not in stored]
    if len(missing) > BUDGET_SHARE * len(entries):
        do = "does" if len(missing) == 1 else "do"
        raise DataError(
            f"{where}: {len(missing):,} of {len(entries):,} files {do} not exist: {printable(shortened(missing, 3))}",
            fix="give each file_name relative to the folder of the metadata",
        )
    absent = set(missing)
    entries = [replace(entry, fault=pictures.MISSING) if entry.name in absent else entry for entry in entries]
    unlisted = len(set(found.pictures) - {entry.name for entry in entries})
    words = file + (f"; {counted(unlisted, 'picture')} not listed in it" if unlisted else "")
    words += f"; {metadata.unread}" if metadata.unread else ""
    words += _ignored(set(found.others) - {entry.name for entry in entries} - {file, "classes.json"})
    return replace(_labelled(root, entries, words, where), columns=metadata.columns(row for _, row in rows))


def _plain_layout(root: Path, found: FoundFiles, mode: CaptionMode, given: Path) -> Layout:
    top = top_folders(found.pictures)
    numbered = len(top.names) > 1 and all(_BY_IMG2DATASET.match(name) for name in top.pictures)
    if not numbered:
        refuse_splits(root, top, given)
    by_class = top.are_classes and not numbered
    sidecars = _Sidecars(root, found.others, mode)
    entries = [Entry(name, label=name.partition("/")[0] if by_class else None) for name in found.pictures]
    if sidecars.any:
        entries = [sidecars.given_to(entry) for entry in entries]
    spare = set(found.others) - sidecars.used - {"classes.json"}
    words = ("class folders" if by_class else "flat") + (", sidecar captions" if sidecars.used else "") + sidecars.words
    words += "; folders numbered by img2dataset are no classes" if numbered else ""
    words += f"; {top.words()}" if top.words() and not numbered else ""
    words += _ignored(spare)
    near = near_tables(spare)
    return _labelled(root, entries, words + (f"; {near}" if near else ""), printable(str(root)))


def _ignored(spare: Collection[str]) -> str:
    return f"; {counted(len(spare), 'other file')} ignored: {unread_words(spare)}" if spare else ""


class _Sidecars:
    """Caption files beside pictures: NAME.txt or NAME.caption, in small or capital letters, for NAME.jpg."""

    def __init__(self, root: Path, others: Iterable[str], mode: CaptionMode) -> None:
        self._root, self._mode = root, mode
        self._by_stem: dict[str, list[str]] = {}
        self.used: set[str] = set()
        self._several = 0
        for name in others:
            path = PurePosixPath(name)
            if path.suffix.lower() in _SIDECARS:
                self._by_stem.setdefault(str(path.with_suffix("")), []).append(name)

    @property
    def any(self) -> bool:
        """Whether there are caption files."""
        return bool(self._by_stem)

    @property
    def words(self) -> str:
        """Which captions files of several lines give; '' when there are none."""
        if not self._several:
            return ""
        files = f"; {self._several:,} caption files of several lines: "
        if self._mode == "whole":
            return files + "each file is one caption"
        return files + "each line is a caption (data.source.captions=whole makes a file one)"

    def given_to(self, entry: Entry) -> Entry:
        """Return the entry with the captions of the file beside it, if there is one."""
        beside = self._by_stem.get(entry.name.rpartition(".")[0])  # a path object for each of a million names is slow
        if beside is None:
            return entry
        name = min(beside, key=lambda name: (not name.endswith(".txt"), not name.lower().endswith(".txt"), name))
        self.used.add(name)
        try:
            text = decode_text((self._root / name).read_bytes())
        except UnicodeDecodeError:
            return replace(entry, fault=BAD_CAPTION, detail=f"{entry.name}: {name} {NOT_UTF8}")
        except OSError as error:
            return replace(entry, fault=BAD_CAPTION, detail=f"{entry.name}: {name}: {error.strerror}")
        captions = captions_in(text, self._mode)
        self._several += len(captions_in(text, "lines")) > 1
        return replace(entry, captions=captions)


def _labelled(root: Path, entries: Sequence[Entry], words: str, where: str) -> Layout:
    labels = resolve_labels([entry.label for entry in entries], read_class_names(root), where)
    resolved = []
    for entry, label in zip(entries, labels.indices, strict=True):
        unlabelled = BAD_LABEL if labels.class_names and label == NO_LABEL else ""
        fault = entry.fault or unlabelled
        resolved.append(Entry(entry.name, entry.captions, label, entry.original_size, fault, entry.detail))
    words += f"; {labels.said}" if labels.said else ""
    return Layout(root, tuple(resolved), labels.class_names, words)
