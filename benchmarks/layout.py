"""One layout of a data set: what it was given, and whether it is read as it is; run by layouts.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_ldm.core.errors import OpenLdmError


@dataclass(frozen=True)
class Sample:
    """What a layout was given for one sample: the bytes of its picture, its class by name, its captions."""

    file: bytes
    label: str | None = None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        name: What it is called in the table.
        write: Writes it into a folder with the real library, and returns the path to read.
        expected: Its samples, in order, where it is to be read.
        refused: Words of the line that refuses it otherwise.
        settings: Settings of the source that it needs.
    """

    name: str
    write: Callable[[Path], Path | str]
    expected: Sequence[Sample] = ()
    refused: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def outcome(layout: Layout, kind: Callable[..., Any], folder: Path) -> str:
    """Write and read one layout; return '' where it is as expected, else what is wrong."""
    path = layout.write(folder)
    try:
        source = kind(path=str(path), **layout.settings).open()
    except OpenLdmError as error:
        said = str(error)
        return "" if layout.refused and layout.refused in said and "\n" not in said else f"refused: {said}"
    if layout.refused:
        return f"read {len(source)} samples, and should be refused"
    if len(source) != len(layout.expected):
        return f"{len(source)} samples, expected {len(layout.expected)}"
    for index, wanted in enumerate(layout.expected):
        sample = source[index]
        label = None if sample.label is None else source.class_names[sample.label]
        found = Sample(sample.file or b"", label, sample.captions)
        parts = [name for name in ("file", "label", "captions") if getattr(found, name) != getattr(wanted, name)]
        if parts:
            return f"sample {index} differs in {', '.join(parts)}: {found.label} {found.captions}"
    return ""
