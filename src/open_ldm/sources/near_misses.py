"""Files and columns that look like captions, labels or pictures and are not read: they are named, with what would help."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from open_ldm.core.errors import shortened
from open_ldm.data.formats import suffixes
from open_ldm.data.sample import printable
from open_ldm.sources.files import find_files

_STEMS = ("metadata", "caption", "captions", "label", "labels", "annotation", "annotations", "prompts", "data", "train")
_TABLES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt")
_COLUMNS = {
    "file_name": ("file_name", "filename", "file", "path", "file_path", "filepath", "image", "image_path", "image_name", "img"),
    "text": ("text", "caption", "captions", "prompt", "prompts", "description", "txt"),
    "label": ("label", "class", "class_name", "category", "labels", "cls"),
}
_MOST_NAMED = 3


def near_tables(unused: Iterable[str]) -> str:
    """Name files that may hold captions or labels, such as captions.csv; '' when there are none."""
    paths = [PurePosixPath(name) for name in unused]
    found = [str(path) for path in paths if path.suffix.lower() in _TABLES and path.stem.lower() in _STEMS]
    if not found:
        return ""
    more = f" and {len(found) - _MOST_NAMED:,} more" if len(found) > _MOST_NAMED else ""
    names = printable(", ".join(sorted(found)[:_MOST_NAMED]))
    return f"{names}{more} not read: metadata.jsonl, metadata.csv or metadata.parquet beside the pictures would be"


def single_pictures(folder: Path) -> str:
    """Name pictures in single files that lie in a folder of tables; '' when there are none."""
    found = find_files(folder, suffixes(), skip_unreadable=True).pictures
    if not found:
        return ""
    files = "picture in a single file is" if len(found) == 1 else "pictures in single files are"
    return f"{len(found):,} {files} not read: {printable(shortened(found, _MOST_NAMED))}"


def near_columns(present: Collection[str], columns: Mapping[str, str], roles: Collection[str]) -> str:
    """Say which setting would read columns that are there in place of missing ones; '' when no name looks like one.

    Args:
        present: Names of the columns that are there.
        columns: The source's setting `columns`.
        roles: The columns that are missing.
    """
    spelt = {name.strip().lower().replace(" ", "_"): name for name in reversed(list(present))}
    near = {role: next((spelt[name] for name in _COLUMNS.get(role, ()) if name in spelt), None) for role in roles}
    found = {**{role: name for role, name in near.items() if name is not None}}
    if not found:
        return ""
    setting = ", ".join(f"{role}: {name}" for role, name in {**columns, **found}.items())
    return f"data.source.columns={{{setting}}}"
