"""How far bf16 moves what an autoencoder computes: reconstructions and latents of the same pictures, beside float32.

    python benchmarks/autoencoder_format.py photos-latent data.transform.size_px=64 autoencoder.path=runs/mine/autoencoder \\
        --emulate --json format.json

The recipe names autoencoder and pictures: the first views that training would see. This is what `autoencoder.dtype=auto` looks
at, with more numbers. With `--emulate` a processor without bf16 makes each product in float32 and rounds it to bf16
(bf16_in_float32.py), since torch's own kernels take several times as long there; times then mean nothing. Seconds are those of
the processor, which other programs change little.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bf16_in_float32 import emulate
from open_ldm.autoencoders import Autoencoder
from open_ldm.autoencoders.reconstruct import psnr_db
from open_ldm.core.device import set_up_machine
from open_ldm.core.pictures import to_images, to_pixels
from open_ldm.runs.build import read_live
from open_ldm.runs.encoders import load_autoencoder
from open_ldm.runs.ordering import order_of
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.sources.loader import open_data

AT_ONCE = 8


def built(recipe: Recipe, dtype: str, device: torch.device) -> Autoencoder:
    """The recipe's autoencoder in a format; in bf16 it decodes in that too."""
    config = recipe.autoencoder.model_copy(update={"dtype": dtype})
    found: Any = load_autoencoder(recipe.model_copy(update={"autoencoder": config}), None, set_up_machine(str(device)))
    found._decoding = found.dtype
    return found  # type: ignore[no-any-return]


@torch.no_grad()
def passed(side: Autoencoder, images: Tensor) -> tuple[Tensor, Tensor, float]:
    """Latents, reconstructions as pixels, and processor seconds of both."""
    started = time.process_time()
    latents = side.encode(images).mean
    found = side.decode(latents)
    return latents, to_pixels(found), time.process_time() - started


def measured(recipe: Recipe, pictures: int, at_once: int) -> dict[str, Any]:
    """Compare both formats on the first views of a recipe."""
    machine = set_up_machine("cpu", "float32")
    sides = [built(recipe, dtype, machine.device) for dtype in ("float32", "bf16")]
    source = open_data(recipe.data)
    count = min(pictures, len(source))
    ranges = [range(start, min(start + at_once, count)) for start in range(0, count, at_once)]
    latents: tuple[list[Tensor], list[Tensor]] = ([], [])
    psnr: tuple[list[Tensor], list[Tensor]] = ([], [])
    seconds = [0.0, 0.0]
    for number, batch in enumerate(read_live(recipe, source, order_of(recipe, source, None), ranges)):
        images = to_images(batch.pixels)
        for index, side in enumerate(sides):
            raw, found, took = passed(side, images)
            latents[index].append(raw)
            psnr[index].append(psnr_db(found, to_pixels(images)))
            seconds[index] += took if number or len(ranges) == 1 else 0.0  # the first batch warms up
    exact, rounded = (torch.cat(side) for side in latents)
    exact_db, rounded_db = (torch.cat(side) for side in psnr)
    lost = (exact_db - rounded_db).sort().values
    deviation = exact.std(dim=(0, 2, 3))
    moved = (rounded - exact).square().mean(dim=(0, 2, 3)).sqrt() / deviation
    shifted = (rounded - exact).mean(dim=(0, 2, 3)).abs() / deviation
    return {
        "pictures": count,
        "float32_db": float(exact_db.mean()),
        "bf16_db": float(rounded_db.mean()),
        "lost_db": {"mean": float(lost.mean()), "median": float(lost.median()), "most": float(lost[-1])},
        "latents": {
            "rms_of_deviation": float(moved.square().mean().sqrt()),
            "worst_channel": float(moved.max()),
            "most_shifted_channel": float(shifted.max()),
            "relative": float((rounded - exact).norm() / exact.norm()),
        },
        "finite": bool(rounded.isfinite().all()),
        "seconds": {"float32": seconds[0], "bf16": seconds[1]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--emulate", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_intermixed_args()
    if given.emulate:
        emulate(convolutions=True)
    found = {**measured(load_recipe(given.recipe, given.changes), given.pictures, given.at_once), "emulated": given.emulate}
    print(json.dumps(found, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
