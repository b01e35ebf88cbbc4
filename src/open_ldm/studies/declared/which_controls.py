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
    SMALL_NET,
    budget,
    control_effect,
    cut_shapes,
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
LONG_SHAPES = (
    "data.source={kind: shapes, length: 20000, two_shapes: 0, short_side_px: [32, 48], longest_aspect: 2,"
    " colours: [red, yellow, purple, green, blue], extents: {large: [0.42, 0.44]}, background: [240, 240]}",
    "data.holdout={share: 0.02}",
)
"""Three pictures in five are longer than the view, up to twice; its crop cuts the shape in nearly one view of five. In whole
pictures a shape stays a pixel or more away from the border. None is coarse."""
CROPPED = (AUGMENTED[0], "data.transform.flip=0")
CROP_BUDGET = (*SMALL_NET, *budget(38_400, 8e-3, 32))
"""Half as many pictures again as in most studies of drawings, since each offset of the crop occurs in few of the views."""
CUT_ASKED = "size, crop, at 0,16"
CROP_ARMS = {
    **{name: ARMS[name] for name in ("none", "size", "size, crop")},
    CUT_ASKED: Arm(run="size, crop", controls={"crop": "0,16"}),
}
"""The gate of the size is alpha 8, the usual one: the original's height and width say whether a view was cut at all, and must
not decide where a shape lies. The last arm asks for a view from farther right, which cuts shapes."""
CROP_VALUES = ("0,0", "0,16", "16,0")
CROP_MEASURED = protocol(
    agreement=200,
    metrics=(
        cut_shapes(pictures=512),
        control_effect(CROP_VALUES, "crop", pictures=512, real_pictures=4000),
        {"kind": "held_out_loss", "pictures": 400},
    ),
    pictures=512,
    features=None,
    sweeps=(Sweep("crop", CROP_VALUES),),
)
"""Neither FD nor KID: their real pictures are cut in the middle, which cuts the shapes of long ones."""
STUDY = Study(
    name="which-controls",
    title="Which controls help?",
    shows="table 2c",
    question="Does it help to give the model the original size, and on top of it the crop and the mirroring?",
    claim=(
        "Controls improve FID: size helps most, crop and flip add to it. A model that is told of the crop cuts no object where"
        " none is asked for."
    ),
    expectations=(
        Expectation("size", "none", "fid"),
        Expectation("size, crop", "size", "fid"),
        Expectation("size, crop, flip", "none", "fid"),
        Expectation("size, crop, flip", "none", "held_out_loss"),
        Expectation("size, crop, flip", "none", "agreement", "higher"),
        Expectation("size, crop, flip", "size, crop", "agreement_place", "higher"),
        Expectation("size, crop, flip", "none", "agreement_place", "higher"),
        Expectation("size, crop", "size", "cut_shapes"),
        Expectation("size, crop", "none", "cut_shapes"),
        Expectation("size, crop", "size", "whole_shapes", "higher"),
        Expectation(CUT_ASKED, "size, crop", "cut_shapes", "higher"),
        Expectation("size, crop", 0, "control_effect", "higher"),
    ),
    scales={
        "tiny": [Setting("shapes", "demo@1", ARMS, MEASURED, (*SIZED_SHAPES, *AUGMENTED, *budget(4800)))],
        "small": [
            Setting("drawings", "demo@1", DRAWN_ARMS, DRAWN_MEASURED, (*CRISP_SHAPES, *SELDOM_MIRRORED, *QUICK), seeds=3),
            Setting("crops", "demo@1", CROP_ARMS, CROP_MEASURED, (*LONG_SHAPES, *CROPPED, *CROP_BUDGET), seeds=3),
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
        " can know. Where crops are studied nothing is mirrored; a model without the crop control has no reason"
        " to cut fewer shapes than the real training views do."
    ),
)
