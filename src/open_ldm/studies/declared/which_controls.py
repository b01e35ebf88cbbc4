"""Table 2c: which controls a model should know."""

from __future__ import annotations

import json
from typing import Any

from open_ldm.studies.declared.data import (
    CLIP,
    CRISP_SHAPES,
    LPIPS,
    PAPER_INFLUENCE,
    QUICK,
    SIZED_SHAPES,
    SIZES,
    budget,
    influence,
    paper_protocol,
    protocol,
)
from open_ldm.studies.study import Arm, Expectation, Setting, Study, Sweep


def _arms(**gate: Any) -> dict[str, Arm]:
    """Ever more controls; `gate` is that of the size."""
    size = {"kind": "original_size", **({"gate": gate} if gate else {})}
    known = {
        "size": [size],
        "size, crop": [size, {"kind": "crop"}],
        "size, crop, flip": [size, {"kind": "crop"}, {"kind": "flip"}],
    }
    arms = {name: Arm((f"conditioning.controls={json.dumps(controls)}",)) for name, controls in known.items()}
    return {"none": Arm(("conditioning.controls=[]", "conditioning.control_drop=0")), **arms}


ARMS = _arms()
DRAWN_ARMS = _arms(kind="power_cosine", alpha=2)
AUGMENTED = ("data.transform.crop={kind: global}", "data.transform.flip=0.5")
"""Random crops and mirroring: what controls can explain."""
SELDOM_MIRRORED = (AUGMENTED[0], "data.transform.flip=0.15")
"""Where half of the views are mirrored, word and flip say nothing alone, and a small network learns neither."""

MEASURED = protocol(influence(), agreement=80, sweeps=(Sweep("size", SIZES), Sweep("flip", ("0", "1"))))
DRAWN_SIZES = ("12x12", "20x20", "48x48")
DRAWN_MEASURED = protocol(
    influence(DRAWN_SIZES, DRAWN_SIZES[:1]), agreement=80, sweeps=(Sweep("size", DRAWN_SIZES), Sweep("flip", ("0", "1")))
)
STUDY = Study(
    name="which-controls",
    title="Which controls help?",
    shows="table 2c",
    question="Does it help to give the model the original size, and on top of it the crop and the mirroring?",
    claim="Controls improve FID: size helps most, crop and flip add to it.",
    expectations=(
        Expectation("size", "none", "fid"),
        Expectation("size, crop", "size", "fid"),
        Expectation("size, crop, flip", "none", "fid"),
        Expectation("size, crop, flip", "none", "held_out_loss"),
        Expectation("size, crop, flip", "none", "agreement", "higher"),
        Expectation("size, crop, flip", "size, crop", "agreement_place", "higher"),
        Expectation("size, crop, flip", "none", "agreement_place", "higher"),
    ),
    scales={
        "tiny": [Setting("shapes", "demo@1", ARMS, MEASURED, (*SIZED_SHAPES, *AUGMENTED, *budget(4800)))],
        "small": [
            Setting("drawings", "demo@1", DRAWN_ARMS, DRAWN_MEASURED, (*CRISP_SHAPES, *SELDOM_MIRRORED, *QUICK), seeds=3)
        ],
        "paper": [
            Setting(
                "cc12m 256 px",
                "cc12m256-mmdit-xl2-improved",
                ARMS,
                paper_protocol("clip_score", PAPER_INFLUENCE, also=(CLIP, LPIPS), sampling={"solver": "ddim", "steps": 50}),
            )
        ],
    },
    notes=(
        "The data are measured by their middle, samples of an arm that knows crops are sampled at crop=0,0. With mirroring half"
        " of the captions' left and right are wrong in training (15 % at small scale); only a model that is told of it"
        " can know."
    ),
)
