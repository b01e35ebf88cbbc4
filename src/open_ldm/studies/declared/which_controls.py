"""Table 2c: which controls a model should know."""

from __future__ import annotations

import json

from open_ldm.studies.declared.data import (
    CLIP,
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

SIZE, CROP, FLIP = {"kind": "original_size"}, {"kind": "crop"}, {"kind": "flip"}
ARMS = {
    "none": Arm(("conditioning.controls=[]", "conditioning.control_drop=0")),
    "size": Arm((f"conditioning.controls={json.dumps([SIZE])}",)),
    "size, crop": Arm((f"conditioning.controls={json.dumps([SIZE, CROP])}",)),
    "size, crop, flip": Arm((f"conditioning.controls={json.dumps([SIZE, CROP, FLIP])}",)),
}
AUGMENTED = ("data.transform.crop={kind: global}", "data.transform.flip=0.5")
"""Random crops and mirroring: what controls can explain."""

MEASURED = protocol(influence(), agreement=80, sweeps=(Sweep("size", SIZES), Sweep("flip", ("0", "1"))))
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
    ),
    scales={
        "tiny": [Setting("shapes", "demo", ARMS, MEASURED, (*SIZED_SHAPES, *AUGMENTED, *budget(4800)))],
        "small": [Setting("shapes", "demo", ARMS, MEASURED, (*SIZED_SHAPES, *AUGMENTED, *QUICK), seeds=3)],
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
        " of the captions' left and right are wrong in training; only a model that gets the flip as a condition can know."
    ),
)
