"""Is it right on this device? Five denoisers train 20 updates, are killed, go on bit-equal, sample, and learn as on a CPU."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from gpu import Cell, Where
from open_ldm.api.run import load_run
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.core.device import DtypeName, choose_device
from open_ldm.core.distributed import World
from open_ldm.core.events import effective_events, read_events
from open_ldm.model.knowledge import Knowledge
from open_ldm.runs.build import build_trainer
from open_ldm.runs.made_batch import made_batch
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train

DENOISERS = {
    "dit": "{kind: dit, size: XS, patch: 2}",
    "mmdit": "{kind: mmdit, size: XS, patch: 2}",
    "mdtv2": "{kind: mdtv2, size: XS, patch: 2, decode_layers: 1}",
    "pixart": "{kind: pixart, size: XS, patch: 2}",
    "unet": "{kind: unet, size: XS, model_channels: 32, multipliers: [1, 2], attention_factors: [2], groups: 8}",
}
DTYPES = tuple(dtype for dtype in ("bf16", "fp16") if dtype in get_args(DtypeName))
UPDATES, BATCH = 20, 16


def cells() -> list[Cell]:
    """One cell for each denoiser and number format."""
    return [Cell(f"truth/{kind}/{dtype}", 9, partial(truth, kind=kind, dtype=dtype)) for dtype in DTYPES for kind in DENOISERS]


def settings(where: Where, kind: str, dtype: str, device: str) -> list[str]:
    """What makes a recipe small, and its training repeatable."""
    updates, batch = (4, 4) if where.toy else (UPDATES, BATCH)
    small = ["denoiser.depth=2", "denoiser.width=32", "denoiser.heads=2"] if where.toy and kind != "unet" else []
    return [
        f"denoiser={DENOISERS[kind]}",
        *(["denoiser.depth=3", *small[1:]] if kind == "mdtv2" and small else small),
        "data.source={kind: shapes, length: 64}",
        f"data.transform.size_px={16 if where.toy else 32}",
        "data.workers=0",
        "latent_stats={kind: measured, pictures: 16}",
        f"training.samples={updates * batch}",
        f"training.batch_size={batch}",
        f"training.log_every_samples={batch}",
        f"training.checkpoint_every_samples={updates * batch // 2}",
        "training.preview_every_samples=0",
        "training.optimizer.warmup_samples=0",
        "training.deterministic=true",
        f"training.device={device}",
        f"training.dtype={dtype}",
        "sampling.steps=4",
        "preview.count=1",
    ]


def truth(where: Where, kind: str, dtype: str) -> Mapping[str, Any]:
    """Train whole, and killed and resumed; compare all tensors, the losses with a CPU's in float32, and sample.

    Returns:
        Whether the resumed run is bit-equal; the largest relative difference of a loss from the CPU's; attention's kernels.
    """
    folder, device = where.out / "truth" / f"{kind}-{dtype}", where.device.type
    changes = settings(where, kind, dtype, device)
    killed = _killed_runs(where)[kind, dtype]
    recipe = load_recipe("shapes-text", changes)
    train(recipe, folder / "whole", silent=True)
    killed.wait()
    reached = max(losses(folder / "killed"), default=0)
    train(recipe, folder / "killed", silent=True)
    whole, resumed = (losses(folder / name) for name in ("whole", "killed"))
    reference = _reference(where, kind)
    last = next(reversed(whole))
    return {
        "killed": killed.returncode == -signal.SIGKILL,
        "killed_at": reached,
        "bit_equal": tensors_equal(folder / "whole", folder / "killed") and whole == resumed,
        "loss": whole[last],
        "worst_difference_from_cpu_float32": max(abs(whole[at] - loss) / loss for at, loss in reference.items()),
        "sampled_finite": _samples(folder / "whole", device),
        "attention": attention_of(recipe, folder / "whole"),
    }


_started: dict[tuple[str, str], subprocess.Popen[bytes]] = {}


def _killed_runs(where: Where) -> Mapping[tuple[str, str], subprocess.Popen[bytes]]:
    """Trainings that kill themselves, by denoiser and format: on a GPU all at once, since starting takes most of their time."""
    wanted = [(kind, dtype) for dtype in DTYPES for kind in DENOISERS]
    for kind, dtype in wanted[:1] if where.toy else wanted:
        if (kind, dtype) not in _started:
            run = where.out / "truth" / f"{kind}-{dtype}" / "killed"
            command = [sys.executable, str(Path(__file__).with_name("gpu_killed.py")), str(run), "shapes-text"]
            changes = settings(where, kind, dtype, where.device.type)
            _started[kind, dtype] = subprocess.Popen([*command, *changes], stderr=subprocess.DEVNULL)
    return _started


def losses(run: Path) -> dict[int, float]:
    """Loss by samples seen, of what counts."""
    events = effective_events(read_events(run / "events.jsonl"))
    return {event.samples_seen: event.number("loss") or 0.0 for event in events if event.name == "train"}


def tensors_equal(one: Path, other: Path) -> bool:
    """Whether the newest checkpoints hold the same bits."""
    found = [CheckpointFolder(run / "checkpoints").newest()[0] for run in (one, other)]
    hashes = [{name: file["sha256"] for name, file in each.content["files"].items()} if each else None for each in found]
    return hashes[0] is not None and hashes[0] == hashes[1]


def _reference(where: Where, kind: str) -> dict[int, float]:
    """Losses of the same training on the CPU in float32, made once for all formats."""
    run = where.out / "truth" / f"{kind}-reference"
    if not (run / "exit.json").is_file():
        train(load_recipe("shapes-text", settings(where, kind, "float32", "cpu")), run, silent=True)
    return losses(run)


def _samples(run: Path, device: str) -> bool:
    """Whether pictures can be sampled; one that is not finite is an error."""
    return len(load_run(run, device).sample(["a red circle on the left"], count=1, steps=4, progress=False)) == 1  # type: ignore[arg-type]


def attention_of(recipe: Recipe, run: Path) -> list[str]:
    """Names of the attention kernels of a training step, as torch's profiler tells them."""
    machine = choose_device(recipe.training.device, recipe.training.dtype)
    checkpoint, _ = CheckpointFolder(run / "checkpoints").newest(groups=())
    assert checkpoint is not None
    trainer = build_trainer(recipe, Knowledge.from_json(checkpoint.content), machine, World())
    batch = made_batch(recipe, 0, recipe.training.batch_size, machine.device)
    with torch.profiler.profile() as profile:
        trainer.update([batch])
    names = {event.key for event in profile.key_averages()}
    kernels = ("flash", "attention", "fmha", "cudnn_sdpa", "softmax")
    return sorted(name[:80] for name in names if any(part in name.lower() for part in kernels))
