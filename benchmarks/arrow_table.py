"""Tables of `datasets`: what building and opening cost, with a table of their arrow files (ldm data index) and without.

    python benchmarks/arrow_table.py --folder /tmp/arrow --files 100 --json arrow_table.json       # a million rows
    python benchmarks/arrow_table.py --folder /tmp/arrow --before ../before                       # by another checkout too

Rows are tiny JPEG files with a class and a caption, 10,000 in a file; all files are links to one. Each opening is a process of
its own and makes what a training asks of the data first: fingerprint, hashes, hold-out and the hash of all pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import measure_parts, memory
from shard_table import timed, tiny_picture

ROWS_OF_A_FILE = 10_000


def make_files(folder: Path, files: int) -> Path:
    """Write one arrow file, and link it under many names, unless they are there."""
    from datasets import ClassLabel, Dataset, Features, Image, Value

    made = folder / f"files-{files}"
    if made.is_dir():
        return made
    made.mkdir(parents=True)
    content = {
        "image": [{"bytes": tiny_picture(), "path": None}] * ROWS_OF_A_FILE,
        "label": [row % 1000 for row in range(ROWS_OF_A_FILE)],
        "text": [f"a picture of number {row}" for row in range(ROWS_OF_A_FILE)],
    }
    types = {"image": Image(), "label": ClassLabel(names=[f"class{n}" for n in range(1000)]), "text": Value("string")}
    Dataset.from_dict(content, features=Features(types)).save_to_disk(folder / "one", num_shards=1)
    for number in range(files):
        os.link(next((folder / "one").glob("*.arrow")), made / f"train-{number:05d}-of-{files:05d}.arrow")
    return made


def opened(path: str) -> dict[str, Any]:
    """Open the rows and make what a training asks of them first, in this process."""
    import datasets  # noqa: F401 - importing it counts in neither

    from open_ldm.data.content import content_hash
    from open_ldm.data.holdout import HoldoutConfig, select_part
    from open_ldm.sources.huggingface import HuggingFaceConfig

    before, found = memory("RssAnon"), list[Any]()
    spent = timed(lambda: found.append(HuggingFaceConfig(path=path).open()))
    (source,) = found
    after = memory("RssAnon")
    return {
        "rows": len(source),
        "open": spent,
        "own_mb_of_opening": after - before,
        "hashes": timed(lambda: (source.fingerprint, source.hashes)),
        "hold_out": timed(lambda: select_part(source, HoldoutConfig(share=0.05), "train")),
        "hash_of_all_pictures": timed(lambda: content_hash(source)),
        "own_mb_of_all": memory("RssAnon") - before,
    }


def built(path: str) -> dict[str, Any]:
    """Write all sidecars and the table."""
    from open_ldm.commands.data_index import index_data
    from open_ldm.sources.huggingface import HuggingFaceConfig

    results = list[Any]()
    spent = timed(lambda: results.append(index_data(HuggingFaceConfig(path=path), silent=True)))
    (result,) = results
    return {**spent, "rows": result.samples, "rows_per_processor_second": round(result.samples / spent["processor_seconds"])}


def in_a_process(task: str, path: Path, home: Path, source: Path | None = None) -> Any:
    """Run a task of this script by one checkout, with a user's cache folder of its own, and read what it prints."""
    code = Path(__file__).resolve().parents[1] if source is None else source
    environment = {**os.environ, "PYTHONPATH": str(code / "src"), "XDG_CACHE_HOME": str(home.resolve())}
    command = [sys.executable, __file__, "--folder", str(path), "--task", task]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--task", choices=["opened", "built"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        print(json.dumps({"opened": opened, "built": built}[given.task](str(given.folder))))
        return
    path, home = make_files(given.folder, given.files), given.folder / "home"
    for file in path.glob("*.index.safetensors"):
        file.unlink()
    parts: dict[str, Callable[[], Any]] = {}
    if given.before:
        parts["without_table_before"] = lambda: in_a_process("opened", path, home / "before", given.before)
    parts["without_table"] = lambda: in_a_process("opened", path, home / "now")
    parts["build"] = lambda: in_a_process("built", path, home / "table")
    parts["with_table"] = lambda: in_a_process("opened", path, home / "table")
    measure_parts(parts, {"files": given.files, "rows": given.files * ROWS_OF_A_FILE}, given.json)


if __name__ == "__main__":
    main()
