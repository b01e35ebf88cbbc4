"""Whether `ldm demo` stays green over seeds and number formats, and turns red under three faults.

    python benchmarks/demo_seeds.py --json seeds.json [--quick-seeds 10] [--full-seeds 3] [--dtypes bf16,float32]
                                    [--emulate-bf16] [--no-faults]

The faults change the improved model alone: its size gate is always open; its controls are dropped in every training picture, so
that it ignores them; its flip gate is always shut, so that it is not told of mirrored views. The quick demo must see the first
two, the full one all three. Every demo is a cell; the file is written after each, and the same command goes on with the rest.
The entangled model of seed 0 is the same under all faults of a version, so it is trained once and kept beside the file, in
`seeds.baseline`; the seconds of such a demo are those of one training. On a processor without bf16, `--emulate-bf16` gives its
arithmetic but not its speed (`bf16_in_float32.py`), and every cell says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bf16_in_float32
from open_ldm.commands.demo import FULL, QUICK, run_demo
from open_ldm.commands.demo.versions import BASELINE, IMPROVED, Version
from open_ldm.core.files import write_json
from open_ldm.core.hashes import hash_content
from open_ldm.core.overrides import last_given
from open_ldm.runs.recipe import load_recipe

GATE_OPEN = "conditioning.controls.original_size.gate={kind: constant}"
IGNORED = "conditioning.control_drop=1.0"
FLIP_SHUT = "conditioning.controls.flip.gate={kind: power_cosine, alpha: 1000000}"
QUICK_FAULTS = {"gate always 1": GATE_OPEN, "control ignored": IGNORED}
FULL_FAULTS = {**QUICK_FAULTS, "flip not told": FLIP_SHUT}
SEED_0 = "training.seed=0"


def cells(quick_seeds: int, full_seeds: int, dtypes: list[str]) -> Iterator[tuple[str, Version, list[str], int]]:
    """Name, version, changes and the wanted exit code of every demo."""
    for seed in range(quick_seeds):
        yield f"quick, seed {seed}", QUICK, [f"training.seed={seed}"], 0
    for fault, change in QUICK_FAULTS.items():
        yield f"quick, {fault}", _broken(QUICK, change), [SEED_0], 1
    for seed in range(full_seeds):
        for dtype in dtypes:
            yield f"full, seed {seed}, {dtype}", FULL, [f"training.seed={seed}", f"training.dtype={dtype}"], 0
    for fault, change in FULL_FAULTS.items() if full_seeds else ():
        yield f"full, {fault}", _broken(FULL, change), [SEED_0, f"training.dtype={dtypes[0]}"], 1


def _broken(version: Version, change: str) -> Version:
    return replace(version, changes={**version.changes, IMPROVED: (*version.changes[IMPROVED], change)})


def _hash_of(recipe: str, changes: list[str]) -> str:
    return hash_content(load_recipe(recipe, last_given(changes)).model_dump(mode="json"))[:16]


def main() -> int:
    """Run the cells that the file does not hold yet; 1 where any ended with another code than wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick-seeds", type=int, default=10)
    parser.add_argument("--full-seeds", type=int, default=3)
    parser.add_argument("--dtypes", type=lambda text: text.split(","), default=["bf16", "float32"])
    parser.add_argument("--emulate-bf16", action="store_true")
    parser.add_argument("--no-faults", action="store_true")
    parser.add_argument("change", nargs="*", help="Further changes to every recipe.")
    given = parser.parse_args()
    if given.emulate_bf16:
        bf16_in_float32.emulate()
    found: dict[str, dict[str, Any]] = json.loads(given.json.read_text()) if given.json.is_file() else {}
    for name, version, changes, wanted in cells(given.quick_seeds, given.full_seeds, given.dtypes):
        if given.no_faults and wanted:
            continue
        overrides = [*changes, *given.change]
        recipes = {model: _hash_of(recipe, [*version.changes[model], *overrides]) for model, recipe in version.recipes.items()}
        if name in found:
            if found[name].get("recipes") != recipes:
                sys.exit(f"error: {given.json} holds '{name}' of other recipes; give another --json")
            continue
        kept = given.json.with_suffix(".baseline") / recipes[BASELINE]
        reused = kept.is_dir()
        with tempfile.TemporaryDirectory() as folder:
            if reused:
                shutil.copytree(kept, Path(folder) / BASELINE)
            result = run_demo(Path(folder), overrides, silent=True, version=version)
            models = {model: findings.to_json() for model, findings in result.findings.items()}
            cell = {"code": result.code, "wanted": wanted, "seconds": round(result.seconds), "baseline_kept": reused}
            cell |= {"bf16": "products in float32"} if given.emulate_bf16 else {}
            found[name] = {**cell, "recipes": recipes, "models": models}
            write_json(given.json, found)
            if SEED_0 in changes and not reused:
                part = kept.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                shutil.copytree(Path(folder) / BASELINE, part)
                part.rename(kept)
        red = [claim.expected for claim in result.claims if claim.wrong]
        print(f"{name}: code {result.code} (wanted {wanted}), {result.seconds:.0f} s {'; '.join(red)}", flush=True)
    return int(any(cell["code"] != cell["wanted"] for cell in found.values()))


if __name__ == "__main__":
    sys.exit(main())
