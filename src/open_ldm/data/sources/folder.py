"""A folder of pictures in any of several layouts. The layout is detected, and `summary` reports it.

    metadata.jsonl, metadata.csv   columns file_name, and if known text, label, original_height, original_width
    class folders                  two or more subfolders that contain all pictures; the first level names the class
    flat                           anything else, read recursively
    sidecars                       picture.txt beside picture.jpg: one caption per line; possible in the last two layouts

A folder without metadata whose pictures all lie in one subfolder is entered. Hidden files and folders are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from open_ldm.core.errors import ConfigError, DataError, nearest, shortened
from open_ldm.core.files import relative_path_hint
from open_ldm.data import pictures
from open_ldm.data.health import BUDGET_SHARE
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary, printable
from open_ldm.data.sources.digests import StoredPicture, read_digests
from open_ldm.data.sources.files import FoundFiles, NoSuchPath, find_files, moved
from open_ldm.data.sources.labels import BAD_LABEL, NO_LABEL, read_class_names, resolve_labels
from open_ldm.data.sources.metadata import METADATA_FILES, read_metadata, stored_name
from open_ldm.data.sources.picture_files import PictureFilesConfig

BAD_CAPTION = "unreadable caption file"


class FolderConfig(PictureFilesConfig):
    """The folder `path` of pictures."""

    kind: Literal["folder"] = "folder"
    path: Path

    def open(self) -> FolderSource:
        """Index the folder. Raises ConfigError for a wrong path, DataError for unusable content."""
        return FolderSource(self)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One picture of the index; `name` opens its file. `fault` is why it cannot be used, known before reading, or empty."""

    name: str
    captions: tuple[str, ...] = ()
    label: int | str | None = None
    original_size: tuple[int, int] | None = None
    fault: str = ""


@dataclass(frozen=True)
class _Layout:
    """The detected layout: pictures in order, their class names, and the layout in words."""

    root: Path
    entries: tuple[_Entry, ...]
    class_names: tuple[str, ...]
    words: str


class FolderSource:
    """Random-access data set over a folder; ids are file names relative to it, sorted, and printable."""

    def __init__(self, config: FolderConfig) -> None:
        self.config = config
        layout = _detect(_checked_root(config.path), config.suffixes)
        self._root = layout.root
        self._entries = layout.entries
        self._class_names = layout.class_names
        captioned = sum(bool(entry.captions) for entry in layout.entries)
        self._summary = SourceSummary(len(layout.entries), len(layout.class_names), captioned, layout.words, config.channels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order; empty when there are none."""
        return self._class_names

    @property
    def summary(self) -> SourceSummary:
        """What the folder contains."""
        return self._summary

    @property
    def fingerprint(self) -> str:
        """Hash of names, labels, captions and original sizes; not of the pictures' content."""
        digest = hashlib.blake2b(repr(self._class_names).encode(), digest_size=16)
        for entry in self._entries:
            digest.update(repr((entry.name, entry.label, entry.captions, entry.original_size)).encode())
        return digest.hexdigest()

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of the pictures' names and original sizes, and of captions and labels in the order of the pictures."""
        pictures = [(entry.name, entry.original_size, entry.fault) for entry in self._entries]
        return IndexHashes(
            pictures=_hash_of((self.config.reading, pictures)),
            captions=_hash_of([entry.captions for entry in self._entries]),
            labels=_hash_of((self._class_names, [entry.label for entry in self._entries])),
        )

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the BLAKE2b of each file's bytes; see `Source.digests`."""
        entries = (self._entries[index] for index in indices)
        stored = (None if entry.fault else StoredPicture(self._root / entry.name) for entry in entries)
        return read_digests(stored, str(self._root.resolve()), len(self), on_pictures)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self._usable(index)
        content = pictures.read_bytes(self._root / entry.name)
        pixels = self.config.decode(content)
        height, width = entry.original_size or pixels.shape[:2]
        return Sample(
            id=self.sample_id(index),
            pixels=pixels,
            original_height_px=height,
            original_width_px=width,
            label=self.label_of(index),
            captions=entry.captions,
            file=content,
        )

    def sample_id(self, index: int) -> str:
        """Return the file name relative to the folder, with forward slashes."""
        return printable(self._entries[index].name)

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) in pixels, from metadata or the file's header. Raises BadPicture."""
        entry = self._usable(index)
        return entry.original_size or self.config.read_size(self._root / entry.name)

    def label_of(self, index: int) -> int | None:
        """Return the class of a picture without reading it; None when it has none."""
        label = self._entries[index].label
        return label if isinstance(label, int) and label != NO_LABEL else None

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of a picture without reading it."""
        return self._entries[index].captions

    def captions(self) -> list[str]:
        """Return all captions, in the order of the pictures."""
        return [caption for entry in self._entries for caption in entry.captions]

    def _usable(self, index: int) -> _Entry:
        entry = self._entries[index]
        if entry.fault:
            raise BadPicture(entry.fault, entry.name)
        return entry


def _hash_of(content: object) -> str:
    return hashlib.blake2b(repr(content).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _checked_root(path: Path) -> Path:
    root = path.expanduser()
    if root.is_dir():
        return root
    if root.exists():
        raise ConfigError(f"source.path {path} is a file", needed="a folder of pictures", fix=f"try {root.parent}")
    try:
        folders = [item.name for item in root.parent.iterdir() if item.is_dir() and item.name[0] != "."]
        beside = sorted(map(printable, folders))
    except OSError:
        beside = []
    hint = nearest(root.name, beside) if beside else ""
    raise NoSuchPath(
        f"source.path {path} does not exist", needed=f"a folder of pictures{relative_path_hint(path)}", fix=hint or moved(path)
    )


def _detect(root: Path, suffixes: tuple[str, ...]) -> _Layout:
    found = find_files(root, suffixes)
    present = [name for name in METADATA_FILES if name in found.others]
    while not present and (only := found.only_folder()) is not None:
        root = root / only
        found = find_files(root, suffixes)
        present = [name for name in METADATA_FILES if name in found.others]
    where = printable(str(root))
    if len(present) > 1:
        raise DataError(f"{where} contains both {' and '.join(present)}", fix="keep one of them")
    if present:
        return _metadata_layout(root, found, present[0])
    if not found.pictures:
        other = f" ({len(found.others)} other files)" if found.others else ""
        raise DataError(f"{where} contains no pictures{other}", needed=f"files ending in {shortened(suffixes)}")
    return _plain_layout(root, found)


def _metadata_layout(root: Path, found: FoundFiles, file: str) -> _Layout:
    stored = {*found.pictures, *found.others}
    entries = [
        _Entry(stored_name(row.file_name, stored), row.captions, row.label, row.original_size)
        for row in read_metadata(root / file)
    ]
    entries.sort(key=lambda entry: entry.name)
    where = printable(str(root / file))
    missing = [entry.name for entry in entries if entry.name not in stored]
    if len(missing) > BUDGET_SHARE * len(entries):
        raise DataError(
            f"{where}: {len(missing):,} of {len(entries):,} files do not exist: {printable(shortened(missing, 3))}",
            fix="give each file_name relative to the folder of the metadata",
        )
    absent = set(missing)
    entries = [replace(entry, fault=pictures.MISSING) if entry.name in absent else entry for entry in entries]
    unlisted = len(set(found.pictures) - {entry.name for entry in entries})
    words = file + (f"; {unlisted:,} pictures not listed in it" if unlisted else "")
    return _labelled(root, entries, words, where)


def _plain_layout(root: Path, found: FoundFiles) -> _Layout:
    others = set(found.others)
    entries, used = [], set()
    for name in found.pictures:
        sidecar = str(Path(name).with_suffix(".txt").as_posix())
        entry = _Entry(name)
        if sidecar in others:
            used.add(sidecar)
            entry = _with_sidecar(entry, root / sidecar)
        entries.append(entry)
    folders = {name.partition("/")[0] for name in found.pictures if "/" in name}
    by_class = len(folders) > 1 and all("/" in name for name in found.pictures)
    if by_class:
        entries = [replace(entry, label=entry.name.partition("/")[0]) for entry in entries]
    spare = len(others - used - {"classes.json"})
    words = ("class folders" if by_class else "flat") + (", sidecar captions" if used else "")
    words += f"; {spare:,} other files ignored" if spare else ""
    return _labelled(root, entries, words, printable(str(root)))


def _with_sidecar(entry: _Entry, path: Path) -> _Entry:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return replace(entry, fault=BAD_CAPTION)
    return replace(entry, captions=tuple(line.strip() for line in lines if line.strip()))


def _labelled(root: Path, entries: Sequence[_Entry], words: str, where: str) -> _Layout:
    labels = resolve_labels([entry.label for entry in entries], read_class_names(root), where)
    resolved = []
    for entry, label in zip(entries, labels.indices, strict=True):
        unlabelled = BAD_LABEL if labels.class_names and label == NO_LABEL else ""
        resolved.append(replace(entry, label=label, fault=entry.fault or unlabelled))
    words += f"; {labels.ignored}" if labels.ignored else ""
    return _Layout(root, tuple(resolved), labels.class_names, words)
