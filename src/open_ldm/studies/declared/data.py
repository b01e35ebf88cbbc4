"""Data sets, budgets and protocols that several studies share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.evaluation.readers import READ_WHEN_COARSE
from open_ldm.studies.study import Protocol

CIFAR10 = "../shared/data/cifar10/train-*.tar"
SHAPES = ("data.source={kind: shapes, length: 20000, two_shapes: 0}", "data.holdout={share: 0.02}")
"""One shape a picture, some of them held out."""
SIZED_SHAPES = (
    "data.source={kind: shrunk, of: {kind: shapes, length: 20000, two_shapes: 0}, short_side_px: [8, 128]}",
    "data.holdout={share: 0.02}",
)
"""The same made small: originals below 32 px are coarse, so that the size control has something to say about detail."""
CRISP_SHAPES = (
    "data.source={kind: shapes, length: 20000, two_shapes: 0, short_side_px: [12, 48], longest_aspect: 1.5,"
    " colours: [red, yellow, purple, green, blue], extents: {large: [0.48, 0.5]}, background: [240, 240]}",
    "data.holdout={share: 0.02}",
)
"""Simple drawings as those of the demo's first edition, in which size and colour have nothing to do with each other: the
small network gets colour and place right in minutes."""
SIZED_CIFAR10 = (
    f"data.source={{kind: shrunk, of: {{kind: shards, path: {CIFAR10}}}, short_side_px: [8, 32]}}",
    "data.holdout={share: 0.02}",
)
"""Photographs shrunk to 8 to 32 px."""

SMALL_NET = ("denoiser.width=64", "denoiser.depth=3", "denoiser.heads=4")
"""A transformer that trains on 500 to 1,000 drawings a second: its arms afford seeds and pictures, which decide."""
ENTANGLED_SIZES = ("8x8", "16x16", "32x32")
"""Sizes of `shapes-entangled`, whose small originals are red and whose large ones are blue."""

SIZES = ("8x8", "16x16", "32x32", "64x64", "128x128")
"""The paper's 64 to 1024 px for 256 px pictures, at 32 px."""
SMALL_SIZES = ("8x8", "16x16")

UNGUIDED: Mapping[str, Any] = {"solver": "dpmpp_2m", "steps": 12, "guidance": {"semantic_scale": 1.0}}
FEATURES = FitConfig(pictures=12_000)
INCEPTION = {"kind": "inception", "path": "pt_inception-2015-12-05-6726825d.pth"}
LPIPS = {"kind": "lpips", "weights": "alexnet-owt-7be5be79.pth", "heads": "alex.pth"}
CLIP = {"kind": "clip", "path": "openai/clip-vit-base-patch16"}
PAPER_SIZES = ("64x64", "128x128", "256x256", "512x512", "1024x1024")


def budget(samples: int, learning_rate: float = 4e-3, batch: int = 16) -> tuple[str, ...]:
    """Training of `samples` pictures, saved at the end."""
    optimizer = f"{{learning_rate: {learning_rate}, betas: [0.9, 0.95], warmup_samples: {samples // 10}, decay: cosine}}"
    return (
        f"training.samples={samples}",
        f"training.batch_size={batch}",
        f"training.optimizer={optimizer}",
        "training.ema.decay=0.99",
        f"training.log_every_samples={max(batch, samples // 20)}",
        "training.preview_every_samples=0",
        f"training.checkpoint_every_samples={samples}",
        "data.workers=0",
    )


QUICK = (*SMALL_NET, *budget(25_600, 8e-3, 32))
"""The small network and the training of most studies of drawings: 800 updates, a minute of one core."""


def influence(values: tuple[str, ...] = SIZES, small: tuple[str, ...] = SMALL_SIZES, pictures: int = 48) -> dict[str, Any]:
    """Control influence of the size."""
    return {"kind": "control_influence", "values": list(values), "small": list(small), "pictures": pictures}


def content_change(
    values: tuple[str, ...] = SIZES,
    control: str = "size",
    attributes: tuple[str, ...] | None = READ_WHEN_COARSE,
    pictures: int = 48,
    **more: Any,
) -> dict[str, Any]:
    """Share of seeds whose content changes with a control; unwanted. `more`: further settings, such as the `reader`."""
    names = None if attributes is None else list(attributes)
    settings = {"control": control, "values": list(values), "attributes": names, "pictures": pictures}
    return {"kind": "content_change", **settings, **more}


def coarse_change(values: tuple[str, ...] = SIZES, control: str = "size", pictures: int = 48) -> dict[str, Any]:
    """How much coarse pictures change with a control, read off pixels alone; unwanted."""
    return {"kind": "coarse_change", "control": control, "values": list(values), "pictures": pictures}


def control_effect(values: tuple[str, ...] = SIZES, control: str = "size", pictures: int = 48, **more: Any) -> dict[str, Any]:
    """How much of what a control does to real pictures it does to samples; wanted."""
    return {"kind": "control_effect", "control": control, "values": list(values), "pictures": pictures, **more}


def cut_shapes(pictures: int = 256) -> dict[str, Any]:
    """Share of drawings with a shape that touches the border; unwanted."""
    return {"kind": "cut_shapes", "pictures": pictures}


def reading_features(shrunk_to_px: int, column: str | None = None, pictures: int = 12_000) -> FitConfig:
    """A classifier that reads a label, the class or the attribute `column` of the data, also off coarse pictures."""
    return FitConfig(pictures=pictures, column=column, shrunk_to_px=shrunk_to_px)


def protocol(*extra: str | Mapping[str, Any], held_out: int = 200, **changes: Any) -> Protocol:
    """What small runs are measured by: FD and KID of a fitted classifier's features, held-out loss, and `extra`."""
    content: dict[str, Any] = {
        "metrics": ("fid", "kid", {"kind": "held_out_loss", "pictures": held_out}, *extra),
        "pictures": 256,
        "sampling": UNGUIDED,
        "features": FEATURES,
        **changes,
    }
    return Protocol(**content)


def paper_protocol(*extra: str | Mapping[str, Any], **changes: Any) -> Protocol:
    """What the paper measures by: FID on 50,000 pictures, LPIPS for the influence of a control, CLIP score for captions."""
    content: dict[str, Any] = {
        "metrics": ("fid", *extra),
        "pictures": 50_000,
        "against": 50_000,
        "features": INCEPTION,
        "sampling": {"solver": "ddim", "steps": 250},
        **changes,
    }
    return Protocol(**content)


PAPER_INFLUENCE = influence(PAPER_SIZES, ("64x64", "128x128"), pictures=1000)
