"""Every common layout of WebDataset shards and Hugging Face tables, written by the real libraries and read here: a table.

    python benchmarks/layouts.py                 # both; needs webdataset and open-ldm[data]
    python benchmarks/layouts.py --what webdataset

Each layout is either read, every picture byte for byte with its class and captions, or refused by a line that names what was
found. Ends with 1 where one is neither. The matrix of TIFF files is tests/data/test_tiff.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
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


def run(layouts: Sequence[Layout], kind: Callable[..., Any], what: str) -> int:
    """Print a line for each layout; return the number of those that are wrong."""
    wrong = 0
    for layout in layouts:
        with tempfile.TemporaryDirectory() as folder:
            problem = outcome(layout, kind, Path(folder))
        wrong += bool(problem)
        right = f"refused: {layout.refused}" if layout.refused else f"read, {len(layout.expected)} samples"
        print(f"{what:<12} {layout.name:<46} {'WRONG: ' + problem if problem else right}")
    print(f"{what}: {len(layouts) - wrong} of {len(layouts)} layouts as they should be")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("webdataset", "huggingface"), default=None)
    given = parser.parse_args(arguments)
    from open_ldm.data.sources.huggingface import HuggingFaceConfig
    from open_ldm.data.sources.shards import ShardsConfig

    wrong = 0
    with tempfile.TemporaryDirectory() as caches:
        os.environ.update(HF_HOME=caches, HF_HUB_OFFLINE="1", XDG_CACHE_HOME=caches)
        if given.what != "huggingface":
            from layouts_webdataset import layouts

            wrong += run(layouts(), ShardsConfig, "webdataset")
        if given.what != "webdataset":
            import layouts_huggingface

            wrong += run(layouts_huggingface.layouts(), HuggingFaceConfig, "huggingface")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
