"""The start of `ldm train` from a whole cache of a million entries, up to the first update: time, processor and memory.

    python benchmarks/start_from_cache.py --folder /tmp/start --json start.json --before ../before
    python benchmarks/start_from_cache.py --folder /tmp/start --kinds table folder --samples 200000

The cache is written without encoding: random latents 3x8x8 in bfloat16, over pictures of 8x8 pixels with a class and a
caption. Kinds of data: `table`, shards with a table (ldm data index); `listed`, the same shards without one; `folder`, a folder
a class, without captions. Shards and pictures are links to a few files. Each start is a process of its own that ends when the
first batch of training is read; the first start on a machine stands apart from later ones. `small` is the same start on 50,000
samples with a table: nearly all of it does not depend on their number, such as importing torch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from figures import measure_parts, memory

STARTED, USED = time.perf_counter(), time.process_time()
CLASSES, LINKS, SHARDS = 100, 50_000, 5
SMALL = 10_000
SETTINGS = (
    "data.transform.size_px=8",
    "data.views=1",
    "data.workers=0",
    "autoencoder={kind: identity, channels: 3}",
    "denoiser={kind: dit, depth: 1, width: 32, heads: 1, patch: 4}",
    "training.samples=64",
    "cache.latents=bfloat16",
)


def make_folder(folder: Path, samples: int) -> None:
    """Make a folder a class, of links to a few pictures, unless it is there."""
    if folder.is_dir():
        return
    from shard_table import tiny_picture

    for number in range(CLASSES):
        (folder / f"class{number:03d}").mkdir(parents=True)
    for number in range(samples):
        origin = folder.parent / f"picture{number // LINKS}.jpg"
        if number % LINKS == 0:
            origin.write_bytes(tiny_picture())
        os.link(origin, folder / f"class{number % CLASSES:03d}" / f"{number:08d}.jpg")


def make_data(kind: str, folder: Path, samples: int) -> Path:
    """Make the data of a kind and return their path."""
    from shard_table import SAMPLES_OF_A_SHARD, copied, make_shards

    if kind == "folder":
        make_folder(folder / "folder", samples)
        return folder / "folder"
    whole = folder / "shards"
    make_shards(whole, SHARDS * SAMPLES_OF_A_SHARD)
    from open_ldm.commands.data_index import index_data
    from open_ldm.sources.shards import ShardsConfig

    index_data(ShardsConfig(path=str(whole)), silent=True)
    made = copied(whole, max(1, samples // (SHARDS * SAMPLES_OF_A_SHARD)))
    if kind == "table":
        return made
    listed = folder / "listed"
    listed.mkdir(exist_ok=True)
    for file in made.glob("*.tar"):
        if not (listed / file.name).exists():
            os.link(file, listed / file.name)
    return listed


def overrides_of(kind: str, path: Path, cache: Path) -> list[str]:
    """The settings of a training from a cache of these data."""
    named = "folder" if kind == "folder" else "shards"
    return [f"data.source={{kind: {named}, path: {path}}}", f"cache.path={cache}", *SETTINGS]


def write_cache(kind: str, path: Path, cache: Path) -> None:
    """Write the whole cache of these data, with random latents in the place of encoded pictures."""
    import torch

    from open_ldm.commands.encode import encode
    from open_ldm.data.sample import TransformRecord
    from open_ldm.encoded.cache.latents import LatentsMaker
    from open_ldm.encoded.cache.records import record_columns
    from open_ldm.encoded.cache.section import Section, ShardContent
    from open_ldm.runs.recipe import load_recipe

    record = TransformRecord(8, 8, 8, 8, 0, 0, 8, 8, False)

    def make(self: LatentsMaker, section: Section, shards: Iterator[int], work: Any) -> Iterator[tuple[int, ShardContent]]:
        for shard in shards:
            rows = section.rows_of(shard)
            records = record_columns([record] * len(rows), self.transform)
            mean = torch.randn(len(rows), 3, 8, 8, generator=torch.Generator().manual_seed(shard)).bfloat16()
            yield shard, ShardContent({"mean": mean, **records, "index": torch.arange(rows.start, rows.stop)})

    LatentsMaker.make = make  # type: ignore[method-assign]
    encode(load_recipe("photos-dit", overrides_of(kind, path, cache)), silent=True)


def start(kind: str, path: Path, cache: Path, profile: Path | None) -> None:
    """Train up to the first update and print what that took; `profile` gets what cProfile saw."""
    from open_ldm.cli.main import main
    from open_ldm.training.loop import Loop

    imported = time.process_time() - USED
    at_import = memory("RssAnon")

    def run(self: Loop[Any]) -> bool:
        next(iter(self.batches))
        if profiler is not None:
            profiler.disable()
            profiler.dump_stats(profile)
        spent = {
            "seconds": round(time.perf_counter() - STARTED, 2),
            "processor_seconds": round(time.process_time() - USED, 2),
            "of_these_import": round(imported, 2),
            "peak_mb": memory("VmHWM"),
            "own_mb": memory("RssAnon"),
            "of_these_import_mb": at_import,
        }
        sys.stderr.flush()
        os.write(3, json.dumps(spent).encode())
        os._exit(0)

    Loop.run = run  # type: ignore[method-assign]
    profiler = None
    if profile is not None:
        import cProfile

        profiler = cProfile.Profile()
        profiler.enable()
    with tempfile.TemporaryDirectory() as out:
        main(["train", "photos-dit", *overrides_of(kind, path, cache), "--out", f"{out}/run"])


def in_a_process(task: str, kind: str, path: Path, cache: Path, home: Path, source: Path | None, *more: str) -> Any:
    """Run a task of this script by one checkout, with a user's cache folder of its own, and read what it writes."""
    ours, theirs = os.pipe()
    code = Path(__file__).resolve().parents[1] if source is None else source
    environment = {**os.environ, "PYTHONPATH": str(code / "src"), "XDG_CACHE_HOME": str(home.resolve())}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as where it is installed
    environment["PYTHONPYCACHEPREFIX"] = str(home.resolve() / "bytecode")
    command = [sys.executable, __file__, "--task", task, "--kinds", kind, "--folder", str(path), "--cache", str(cache), *more]
    run = f"exec {' '.join(map(json.dumps, command))} 3>&{theirs}"
    done = subprocess.run(["bash", "-c", run], env=environment, pass_fds=[theirs], capture_output=True, text=True, check=False)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        said = answer.read()
    if done.returncode or (task == "start" and not said):
        raise SystemExit(f"{kind}, {task}: {done.stderr[-2000:]}")
    return json.loads(said) if said else None


def measured(kind: str, folder: Path, samples: int, sources: dict[str, Path | None], rounds: int) -> dict[str, Any]:
    """The first start and later ones of each checkout."""
    path, cache = make_data(kind, folder, samples), folder / f"cache-{kind}-{samples}"
    if not cache.is_dir():
        in_a_process("write", kind, path, cache, folder / "home-writer", None)
    found: dict[str, Any] = {"samples": samples}
    for name, source in list(sources.items()) * (rounds + 1):
        own = folder / f"{name}-{kind}-{samples}"  # of each side: what it remembers, and what it writes into the cache
        if name not in found:
            shutil.rmtree(own, ignore_errors=True)
            shutil.copytree(cache, own / "cache", copy_function=os.link)
        spent = in_a_process("start", kind, path, own / "cache", own / "home", source)
        if name in found:
            found[name]["later"].append(spent)
        else:
            found[name] = {"first": spent, "later": []}
    return found


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1_000_000, help="a multiple of 50,000")
    parser.add_argument("--kinds", nargs="+", choices=["table", "listed", "folder"], default=["table", "listed", "folder"])
    parser.add_argument("--rounds", type=int, default=3, help="later starts of each side")
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--task", choices=["write", "start"], help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--profile", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task == "write":
        write_cache(given.kinds[0], given.folder, given.cache)
    elif given.task == "start":
        start(given.kinds[0], given.folder, given.cache, given.profile)
    else:
        given.folder.mkdir(parents=True, exist_ok=True)
        sources: dict[str, Path | None] = {"now": None} | ({"before": given.before} if given.before else {})
        parts: dict[str, Callable[[], Any]] = {}
        for kind in given.kinds:
            parts[kind] = partial(measured, kind, given.folder, given.samples, sources, given.rounds)
        small = given.folder / "small"
        parts["small"] = partial(measured, "table", small, SHARDS * SMALL, sources, given.rounds)
        measure_parts(parts, {"samples": given.samples}, given.json)


if __name__ == "__main__":
    main()
