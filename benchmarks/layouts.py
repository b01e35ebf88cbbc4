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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from layout import Layout, outcome


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
    from open_ldm.sources.huggingface import HuggingFaceConfig
    from open_ldm.sources.shards import ShardsConfig

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
