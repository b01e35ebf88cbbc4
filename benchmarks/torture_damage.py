"""Damage on purpose: flipped bits and cut files, and whether each is found or does no harm.

    python benchmarks/torture_damage.py                                  # 1,000 flips and 200 cuts
    python benchmarks/torture_damage.py --flips 60 --cuts 12 --json damage.json

A tiny run is trained; then one file at a time is damaged and read as a command would read it:

* `checkpoints`, `manifests`: weights, averages and optimiser, and what describes them. The newest checkpoint must be refused,
  or be what it was; where it is refused, the older one must be taken.
* `caches`: shards, records, index and layout. What training reads afterwards must be what it was.
* `logs`: the event log. It must be read, and its report be written; one number of it may be another.
* `indexes`: of a tar shard, in the user's cache folder. The index must be what it was.
* `autoencoders`: weights and settings of an exported one. It must be refused, or have the same weights and the same settings,
  those that its class takes, and encode and decode a picture to equal bits. Notes beside them, such as the version of diffusers
  that wrote it, and the scale for other programs change no number here.

A kind that is in the JSON file already is not done again. The exit code is 1 where anything was missed.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from webdataset import TarWriter

from open_ldm.autoencoders import KLConfig, build_autoencoder
from open_ldm.autoencoders.export import export
from open_ldm.autoencoders.latent_stats import LatentStats
from open_ldm.autoencoders.network import NetworkConfig, build_network
from open_ldm.checkpoints.checkpoint import CheckpointFolder, load_checkpoint
from open_ldm.commands.encode import encode
from open_ldm.core.errors import OpenLdmError
from open_ldm.core.events import read_events
from open_ldm.core.hashes import hash_tensors
from open_ldm.run_folder.report.page import write_report
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train
from open_ldm.sources.shard_index import index_shard

RECIPE: dict[str, Any] = {
    "name": "damaged",
    "data": {"source": {"kind": "shapes", "length": 24}, "transform": {"size_px": 16}, "views": 1, "workers": 0},
    "latent_stats": {"kind": "measured", "pictures": 16},
    "conditioning": {"semantic": {"kind": "text", "encoder": {"kind": "words", "length": 10, "width": 16}}, "controls": []},
    "denoiser": {"kind": "dit", "size": "XS", "patch": 4, "depth": 2, "width": 32, "heads": 2},
    "training": {"samples": 32, "batch_size": 4, "checkpoint_every_samples": 16, "device": "cpu", "log_every_samples": 4},
    "sampling": {"solver": "euler", "steps": 2},
    "preview": {"count": 2},
}
Check = Callable[[Path], str]


def damage(file: Path, kind: str, draw: random.Random) -> str:
    """Flip one bit of a file, or cut it; returns what was done."""
    content = bytearray(file.read_bytes())
    position = draw.randrange(len(content))
    if kind == "flip":
        content[position] ^= 1 << draw.randrange(8)
    else:
        del content[position:]
    file.write_bytes(content)
    return f"{kind} of {file.name} at byte {position}"


def checkpoint_check(run: Path) -> tuple[list[Path], Check]:
    """The newest checkpoint of a run that has two."""
    store = CheckpointFolder(run / "checkpoints")
    newest, older = (store.root / name for name in store.names())
    good = load_checkpoint(newest)
    hashes = {group: hash_tensors(tensors) for group, tensors in good.files.items()}

    def check(_: Path) -> str:
        try:
            found = load_checkpoint(newest)
        except OpenLdmError:
            taken, _ = CheckpointFolder(store.root).newest()
            return "found" if taken is not None and taken.path == older else "missed"
        same = {group: hash_tensors(tensors) for group, tensors in found.files.items()} == hashes
        return "harmless" if same and found.content == good.content else "missed"

    return sorted(newest.iterdir()), check


def manifest_check(run: Path) -> tuple[list[Path], Check]:
    """What describes the newest checkpoint."""
    files, check = checkpoint_check(run)
    return [file for file in files if file.suffix == ".json"], check


def cache_check(recipe: Recipe) -> tuple[list[Path], Check]:
    """The recipe's cache, read as a training reads it; it is mended on the way."""
    assert recipe.cache is not None
    root = recipe.cache.path
    files = sorted(file for file in root.rglob("*") if file.is_file() and file.suffix in (".safetensors", ".json"))
    before = {file: file.read_bytes() for file in files}

    def check(file: Path) -> str:
        try:
            train(recipe, root.parent / "again", silent=True)
        except OpenLdmError:
            return "found"
        finally:
            shutil.rmtree(root.parent / "again", ignore_errors=True)
        same = all(path.read_bytes() == content for path, content in before.items() if path.suffix == ".safetensors")
        return ("found" if file.read_bytes() == before[file] else "harmless") if same else "missed"

    return files, check


def log_check(run: Path) -> tuple[list[Path], Check]:
    """The event log of a run."""
    log = run / "events.jsonl"
    whole, size = len(read_events(log)), log.stat().st_size

    def check(_: Path) -> str:
        write_report(run)
        lost = whole - len(read_events(log))
        return "harmless" if lost <= 2 or log.stat().st_size < size else "missed"  # a flip may join two lines

    return [log], check


def index_check(folder: Path) -> tuple[list[Path], Check]:
    """The index of a shard of pictures."""
    shard = folder / "pictures.tar"
    with TarWriter(str(shard)) as writer:
        for number in range(20):
            writer.write(
                {"__key__": f"{number:03d}", "png": bytes([number]) * 50, "cls": number % 3, "txt": f"picture {number}"}
            )
    good = index_shard(shard)
    (kept,) = (Path(os.environ["XDG_CACHE_HOME"])).rglob("shards/*.json")

    def check(_: Path) -> str:
        before = kept.read_bytes()
        if index_shard(shard) != good:
            return "missed"
        return "found" if kept.read_bytes() != before else "harmless"

    return [kept], check


def autoencoder_check(folder: Path) -> tuple[list[Path], Check]:
    """An exported autoencoder."""
    network = build_network(NetworkConfig(latent_channels=3, widths=(8, 8), groups=4), seed=0)
    export(network, LatentStats((0.0,) * 3, (1.0,) * 3), folder)
    config = KLConfig(path=str(folder), channels=3, factor=2)
    picture = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)

    def read() -> Mapping[str, Any]:
        loaded = build_autoencoder(config, torch.device("cpu"))
        taken = inspect.signature(type(loaded.network)).parameters.keys() - {"scaling_factor"}
        settings = {name: value for name, value in loaded.network.config.items() if name in taken}
        latents = loaded.encode(picture).mean
        made = {"latents": latents, "picture": loaded.decode(latents)}
        return {"weights": hash_tensors(loaded.network.state_dict()), "settings": str(settings), "made": hash_tensors(made)}

    good = read()

    def check(_: Path) -> str:
        try:
            return "harmless" if read() == good else "missed"
        except OpenLdmError:
            return "found"

    return sorted(folder.iterdir()), check


def torture(files: list[Path], check: Check, flips: int, cuts: int, seed: str) -> tuple[Counter[str], list[str]]:
    """Damage files again and again, each time only one, and put it back."""
    draw, count, missed = random.Random(seed), Counter[str](), list[str]()
    for kind in ["flip"] * flips + ["cut"] * cuts:
        file = draw.choices(files, [max(1, each.stat().st_size) ** 0.5 for each in files])[0]
        before = file.read_bytes()
        done = damage(file, kind, draw)
        try:
            verdict = check(file)
        except Exception as error:
            verdict, done = "missed", f"{done}: {type(error).__name__}: {error}"
        file.write_bytes(before)
        count[verdict] += 1
        if verdict == "missed":
            missed.append(done)
    return count, missed


def main() -> int:
    """Torture all kinds of files; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", default="damage")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(root / "home")
        (root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
        recipe = load_recipe(str(root / "recipe.yaml"))
        train(recipe, root / "run", silent=True)
        cached = load_recipe(
            str(root / "recipe.yaml"), [f"cache.path={root}/cache", "cache.shard_mb=0.02", "training.samples=4"]
        )
        encode(cached, silent=True)
        kinds = {
            "checkpoints": checkpoint_check(root / "run"),
            "manifests": manifest_check(root / "run"),
            "caches": cache_check(cached),
            "logs": log_check(root / "run"),
            "indexes": index_check(root),
            "autoencoders": autoencoder_check(root / "autoencoder"),
        }
        found = json.loads(given.json.read_text()) if given.json and given.json.is_file() else {}
        for kind, (files, check) in kinds.items():
            flips, cuts = -(-given.flips // len(kinds)), -(-given.cuts // len(kinds))
            if kind not in found:
                count, missed = torture(files, check, flips, cuts, f"{given.seed} {kind}")
                found[kind] = {"flips": flips, "cuts": cuts, **count, "what was missed": missed}
            print(f"{kind:<14}{json.dumps(found[kind])}", flush=True)
            if given.json:
                given.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(any(each["what was missed"] for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
