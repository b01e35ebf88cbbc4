"""A study of two arms that trains in seconds."""

from __future__ import annotations

import json
from pathlib import Path

from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.studies.study import Arm, Expectation, Protocol, Setting, Source, Start, Study, Sweep
from tests.runs.tiny import tiny_recipe

GATE = "conditioning.controls.original_size.gate"
FIT = FitConfig.model_validate(
    {"network": {"size_px": 16, "width": 8, "dim": 8}, "pictures": 64, "batch_size": 16, "held_out": 0.3}
)
INFLUENCE = {"kind": "control_influence", "values": ["8x8", "32x32"], "small": [], "pictures": 4}


def small_study(folder: Path) -> Study:
    """Two gates of the size control, and one arm that starts from another run."""
    protocol = Protocol(
        metrics=("fid", {"kind": "kid", "subset_size": 10}, INFLUENCE, {"kind": "held_out_loss", "pictures": 4}),
        pictures=16,
        against=20,
        sampling={"steps": 2, "guidance": {"semantic_scale": 1.0}},
        features=FIT,
        agreement=2,
        tokens=4,
        noise_levels=True,
        shown=2,
        sweeps=(Sweep("size", ("8x8", "32x32")), Sweep("hue", ("1", "2"))),
    )
    arms = {
        "constant": Arm((f"{GATE}={{kind: constant}}",)),
        "late": Arm((f"{GATE}={{kind: power_cosine, alpha: 8}}",)),
        "late, size=8x8": Arm(run="late", controls={"size": "8x8"}),
        "carried on": Arm(start=Start("before", {"rescale_noise": False})),
    }
    data = ("data.source.length=80", "data.holdout={share: 0.2}")
    changes = (*data, "training.samples=8", "training.checkpoint_every_samples=8")
    setting = Setting(
        "shapes",
        str(tiny_recipe(folder)),
        arms,
        protocol,
        changes,
        sources={"before": Source(str(tiny_recipe(folder)), changes)},
    )
    return Study(
        name="small",
        title="Two gates",
        shows="nothing",
        question="Does the gate matter?",
        claim="A late gate lowers the influence <of size>.",
        expectations=(Expectation("late", "constant", "control_influence"), Expectation("late", "constant", "clip_score")),
        scales={"tiny": [setting]},
    )


def told(out: Path) -> dict[str, object]:
    """study.json."""
    content: dict[str, object] = json.loads((out / "study.json").read_text())
    return content
