"""A recipe small enough to train in seconds, and what its run folder tells."""

from __future__ import annotations

from pathlib import Path

import yaml

from open_ldm.core.events import effective_events, read_events

TINY = {
    "name": "tiny",
    "data": {
        "source": {"kind": "shapes", "length": 50, "two_shapes": 0},
        "transform": {"size_px": 16, "flip": 0.5},
        "workers": 0,
    },
    "latent_stats": {"kind": "measured", "pictures": 16},
    "conditioning": {
        "semantic": {"kind": "text", "encoder": {"kind": "words", "length": 10, "width": 16}},
        "controls": [{"kind": "original_size"}, {"kind": "crop"}, {"kind": "flip"}, {"kind": "aspect_ratio"}],
    },
    "denoiser": {"kind": "mmdit", "size": "XS", "patch": 4, "depth": 2, "width": 32, "heads": 2},
    "training": {
        "samples": 96,
        "batch_size": 4,
        "optimizer": {"learning_rate": 0.001},
        "dtype": "float32",
        "log_every_samples": 4,
        "checkpoint_every_samples": 16,
    },
    "sampling": {"solver": "euler", "steps": 3, "guidance": {"semantic_scale": 2.0}},
    "preview": {"count": 4},
}

DENOISERS = {
    "mmdit": [],
    "dit": ["denoiser={kind: dit, size: XS, patch: 4, depth: 2, width: 32, heads: 2}"],
    "pixart": ["denoiser={kind: pixart, size: XS, patch: 4, depth: 2, width: 32, heads: 2}"],
    "mdtv2": ["denoiser={kind: mdtv2, size: XS, patch: 4, depth: 3, width: 32, heads: 2, decode_layers: 1}"],
    "unet": ["denoiser={kind: unet, size: XS, model_channels: 16, multipliers: [1, 2], attention_factors: [2], groups: 4}"],
}


def tiny_recipe(folder: Path) -> Path:
    """Write the tiny recipe into `folder`."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def losses(run: Path) -> list[tuple[int, float | None]]:
    """(samples seen, loss) of every update that counts."""
    events = effective_events(read_events(run / "events.jsonl"))
    return [(event.samples_seen, event.number("loss")) for event in events if event.name == "train"]


def last_seen(run: Path) -> int:
    """Samples seen according to the newest training event, finished or not."""
    events = [event for event in read_events(run / "events.jsonl") if event.name in ("train", "resume")]
    return events[-1].samples_seen if events else -1
