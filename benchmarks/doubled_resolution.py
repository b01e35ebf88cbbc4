"""Positions at a doubled resolution: a model trained at 32 px looks at the same pictures enlarged to 64 px.

    python benchmarks/doubled_resolution.py --out runs/doubled --figure docs/images/doubled-resolution.png

A small mmDiT learns shapes at 32 px (a few minutes). Then, untrained at 64 px, it is shown noisy pictures enlarged twice, with
position tables resampled, interpolated and extrapolated. Its prediction is compared with its own prediction at 32 px, enlarged:
relative root mean square of the difference. The figure shows x_0 as predicted, once per kind.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from open_ldm.core import seeds
from open_ldm.core.pictures import grid, save_png, to_images, to_pixels
from open_ldm.denoisers.base import TransformerConfig
from open_ldm.denoisers.blocks.embeddings import patches_of
from open_ldm.denoisers.blocks.positions import GridChange, Positions, positions_on
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import open_data, read_batches

PICTURES, SHOWN, TIMES = 64, 6, (0.3, 0.5, 0.7, 0.9)


def doubled(x: Tensor) -> Tensor:
    """Each pixel becomes four."""
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


@torch.no_grad()
def compare(run: LoadedRun) -> tuple[dict[str, list[float]], list[Tensor], list[str]]:
    """Relative difference at each time by kind, and what the figure shows of one time."""
    recipe, model, device = run.recipe, run.model, run.machine.device
    denoiser = recipe.denoiser
    assert isinstance(denoiser, TransformerConfig)
    batch = next(
        read_batches(open_data(recipe.data), recipe.data.transform, seed=1, position_ranges=[range(PICTURES)], workers=0)
    )
    x_0 = run.known.stats.normalise(to_images(batch.pixels)).to(device)
    noise = seeds.normal(0, "doubled", range(PICTURES), x_0.shape[1:]).to(device)
    inputs = run.build_inputs([SampleRequest(i, caption) for i, caption in enumerate(batch.captions or ())]).to(device)
    old = patches_of(recipe.latent_shape[1:], denoiser.patch)
    found: dict[str, list[float]] = {kind: [] for kind in get_args(GridChange)}
    shown, names = [batch.pixels[:SHOWN]], ["the picture"]
    for time in TIMES:
        t = torch.full((PICTURES,), time, device=device)
        x_t = model.schedule.noised(x_0, noise, t)
        model.denoiser.positions = Positions(denoiser.positions, denoiser.geometry.width)
        low = model.denoise(x_t, t, inputs).x_0
        if time == TIMES[2]:
            shown.append(to_pixels(run.known.stats.denormalise(low[:SHOWN])).cpu())
            names.append("32 px, as trained")
        for kind in get_args(GridChange):
            moved = positions_on(denoiser.positions, old, (2 * old[0], 2 * old[1]), kind)
            model.denoiser.positions = Positions(moved, denoiser.geometry.width)
            high = model.denoise(doubled(x_t), t, inputs).x_0
            found[kind].append(float((high - doubled(low)).square().mean().sqrt() / low.square().mean().sqrt()))
            if time == TIMES[2]:
                shown.append(to_pixels(run.known.stats.denormalise(high[:SHOWN])).cpu())
                names.append(f"64 px, {kind}")
    return found, shown, names


def main(arguments: Sequence[str] | None = None) -> None:
    """Train if need be, compare, draw."""
    parser = argparse.ArgumentParser(description="Position tables of a doubled grid, compared on a trained model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=24000)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further changes to the recipe")
    args = parser.parse_args(arguments)
    changes = [f"training.samples={args.samples}", "training.preview_every_samples=0", *args.set]
    recipe = load_recipe("demo", ["data.transform.flip=0", "training.dtype=float32", *changes])
    if (code := train(recipe, args.out / "run").code) != 0:
        raise SystemExit(code)
    found, shown, names = compare(load_run(args.out / "run"))
    args.figure.parent.mkdir(parents=True, exist_ok=True)
    tiles = [picture for row in shown for picture in row]
    save_png(args.figure, grid([_at_64(tile) for tile in tiles], SHOWN, row_headers=names, scale=2))
    (args.out / "difference.json").write_text(json.dumps({"times": TIMES, **found}, indent=2) + "\n")
    print(f"{'t':<12}" + "".join(f"{time:>8g}" for time in TIMES))
    for kind, values in found.items():
        print(f"{kind:<12}" + "".join(f"{100 * value:>7.1f}%" for value in values))


def _at_64(pixels: Tensor) -> Tensor:
    return doubled(pixels) if pixels.shape[-1] == 32 else pixels


if __name__ == "__main__":
    main()
