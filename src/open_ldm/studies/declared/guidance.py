"""Two guidance scales: one for what a picture shows, one for how it was made (method, section 3)."""

from __future__ import annotations

from typing import Any

from open_ldm.studies.declared.data import (
    SIZED_SHAPES,
    SIZES,
    budget,
    content_change,
    control_effect,
    influence,
    paper_protocol,
    protocol,
)
from open_ldm.studies.study import Arm, Expectation, Setting, Study, Sweep


def _arms(semantic: tuple[float, ...], control: tuple[float, ...]) -> dict[str, Arm]:
    """One training, sampled under every pair of scales."""
    arms: dict[str, Arm] = {}
    for w_s in semantic:
        for w_c in control:
            guidance: dict[str, Any] = {"semantic_scale": w_s, "control_scale": w_c}
            arms[f"{w_s:g} and {w_c:g}"] = Arm(run=next(iter(arms), None), sampling={"guidance": guidance})
    return arms


ARMS = _arms((1.0, 2.0, 4.0), (1.0, 2.0))
MEASURED = protocol("precision_recall", influence(pictures=32), agreement=40, sweeps=(Sweep("size", SIZES),))
SLIDER = ("12x12", "20x20", "48x48")
DRAWN_MEASURED = protocol(
    "precision_recall",
    content_change(SLIDER, attributes=("colour",), pictures=96),
    control_effect(SLIDER, pictures=96),
    agreement=160,
    sweeps=(Sweep("size", SLIDER),),
)
"""On the drawings and the gate of the demo's first edition: at alpha 8 the size did next to nothing under any scale, and kinds
were not readable."""
STUDY = Study(
    name="guidance",
    title="Two guidance scales",
    shows="the guidance of section 3 of the method",
    question="What do the semantic and the control scale do to quality, agreement and the influence of size?",
    claim="Both kinds of condition can be strengthened apart from each other, without one hurting the other.",
    expectations=(
        Expectation("2 and 1", "1 and 1", "agreement", "higher"),
        Expectation("2 and 2", "2 and 1", "control_influence", "higher"),
        Expectation("1 and 2", "1 and 1", "control_effect", "higher"),
        Expectation("2 and 2", "2 and 1", "control_effect", "higher"),
        Expectation("2 and 2", "2 and 1", "fid"),
    ),
    scales={
        "tiny": [Setting("shapes", "demo@1", ARMS, MEASURED, (*SIZED_SHAPES, *budget(4000)))],
        "small": [Setting("drawings", "demo-improved@1", ARMS, DRAWN_MEASURED, ("data.holdout={share: 0.02}",), seeds=3)],
        "paper": [Setting("imagenet 256 px", "imagenet256-mmdit-xl2-improved", ARMS, paper_protocol("precision_recall"))],
    },
    notes="All arms share one training; an arm is named by its semantic and its control scale.",
)
