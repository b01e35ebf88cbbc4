"""Kill and resume in every way that a network computes: dtype, compiled or not, blocks computed again.

    python benchmarks/modes.py --json modes.json
    python benchmarks/modes.py --modes compile --denoisers dit mdtv2

Each cell trains a tiny model of one denoiser twice by `ldm train`: through, and with SIGKILL in the middle and the same command
again. Losses and the hashes of weights, average and optimiser must be equal. Cells that are in the JSON file are not run again.
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
from pathlib import Path
from typing import Any

import yaml

from open_ldm.core.events import effective_events, read_events

MODES = {
    "float32": ["training.dtype=float32"],
    "bf16": ["training.dtype=bf16"],
    "fp16": ["training.dtype=fp16"],
    "recompute": ["training.dtype=bf16", "training.recompute=blocks"],
    "compile": ["training.dtype=bf16", "training.compile=on"],
    "compile+recompute": ["training.dtype=bf16", "training.compile=on", "training.recompute={every: 2}"],
}
SMALL = "size: XS, patch: 4, width: 32, heads: 2"
DENOISERS = {
    "dit": f"{{kind: dit, depth: 2, {SMALL}}}",
    "mdtv2": f"{{kind: mdtv2, depth: 3, decode_layers: 1, {SMALL}}}",
    "mmdit": f"{{kind: mmdit, depth: 2, {SMALL}}}",
    "pixart": f"{{kind: pixart, depth: 2, {SMALL}}}",
    "unet": "{kind: unet, size: XS, model_channels: 16, multipliers: [1, 2], attention_factors: [2], groups: 4}",
}
RECIPE: dict[str, Any] = {
    "name": "modes",
    "data": {"source": {"kind": "shapes", "length": 50}, "transform": {"size_px": 16, "flip": 0.5}, "workers": 0},
    "latent_stats": {"kind": "measured", "pictures": 16},
    "conditioning": {
        "semantic": {"kind": "text", "encoder": {"kind": "words", "length": 10, "width": 16}},
        "controls": [{"kind": "original_size"}, {"kind": "flip"}],
    },
    "training": {"samples": 64, "batch_size": 4, "log_every_samples": 4, "checkpoint_every_samples": 8},
    "preview": {"count": 2},
}


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """The program, quiet."""
    return subprocess.Popen([sys.executable, "-m", "open_ldm", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(arguments: list[str]) -> str:
    """Run to the end; what it said."""
    said, _ = (process := start(arguments)).communicate()
    if process.returncode:
        raise SystemExit(said.decode())
    return said.decode()


def updates_in(run: Path) -> list[tuple[int, Any]]:
    """(samples seen, loss) of every update that counts."""
    if not (run / "events.jsonl").is_file():
        return []
    return [
        (event.samples_seen, event.fields["loss"])
        for event in effective_events(read_events(run / "events.jsonl"))
        if event.name == "train"
    ]


def hashes(run: Path) -> dict[str, str]:
    """Of the files of the newest checkpoint."""
    manifest = json.loads((max((run / "checkpoints").iterdir()) / "MANIFEST.json").read_text())
    return {name: each["sha256"] for name, each in manifest["files"].items()}


def cell(denoiser: str, mode: str, folder: Path) -> dict[str, Any]:
    """One denoiser in one mode."""
    recipe, whole, broken = folder / "modes.yaml", folder / "whole", folder / "broken"
    recipe.write_text(yaml.safe_dump({**RECIPE, "denoiser": yaml.safe_load(DENOISERS[denoiser])}))
    arguments = ["train", str(recipe), *MODES[mode], "training.device=cpu", "training.optimizer.learning_rate=0.001"]
    started = time.perf_counter()
    said = finish([*arguments, "--out", str(whole)])
    seconds = time.perf_counter() - started
    killed_at = []
    for mark in (20, 44):
        process = start([*arguments, "--out", str(broken)])
        while process.poll() is None and (updates_in(broken) or [(0, 0)])[-1][0] < mark:
            time.sleep(0.02)
        process.kill()
        process.communicate()
        killed_at.append((updates_in(broken) or [(0, 0)])[-1][0])
    finish([*arguments, "--out", str(broken)])
    resumes = [event.fields["bitwise"] for event in read_events(broken / "events.jsonl") if event.name == "resume"]
    return {
        "denoiser": denoiser,
        "mode": mode,
        "killed_at": killed_at,
        "bitwise": resumes,
        "same_losses": updates_in(whole) == updates_in(broken) and len(updates_in(whole)) == 16,
        "same_files": hashes(whole) == hashes(broken),
        "compiled": next((line for line in said.splitlines() if "compiled" in line), ""),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Run the cells that are not known yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--denoisers", nargs="+", default=DENOISERS, choices=DENOISERS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    found = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    known = {(each["denoiser"], each["mode"]) for each in found}
    for mode in given.modes:
        for denoiser in given.denoisers:
            if (denoiser, mode) in known:
                continue
            folder = Path(tempfile.mkdtemp())
            found.append(cell(denoiser, mode, folder))
            shutil.rmtree(folder)
            print(json.dumps(found[-1]), flush=True)
            if given.json:
                given.json.write_text(json.dumps(found, indent=1))
    raise SystemExit(0 if all(each["same_losses"] and each["same_files"] for each in found) else 1)


if __name__ == "__main__":
    main()
