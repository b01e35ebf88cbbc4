"""A recipe for an autoencoder small enough to train in seconds."""

from __future__ import annotations

from pathlib import Path

import yaml

TINY = {
    "name": "tiny-autoencoder",
    "data": {
        "source": {"kind": "shapes", "length": 40, "two_shapes": 0},
        "transform": {"size_px": 16, "flip": 0.5},
        "workers": 0,
    },
    "network": {"in_channels": 3, "latent_channels": 4, "widths": [8, 8], "groups": 4},
    "loss": {"scales": 2},
    "training": {
        "samples": 48,
        "batch_size": 4,
        "optimizer": {"learning_rate": 0.001},
        "dtype": "float32",
        "log_every_samples": 4,
        "preview_every_samples": 24,
        "checkpoint_every_samples": 16,
    },
    "held_out": {"pictures": 6, "shown": 3},
}


def tiny_recipe(folder: Path) -> Path:
    """Write the tiny recipe into `folder`."""
    path = folder / "tiny-autoencoder.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path
