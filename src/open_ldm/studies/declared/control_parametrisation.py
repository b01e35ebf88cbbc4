"""Table 2a: how the size control enters in time."""

from __future__ import annotations

from open_ldm.studies.declared.data import (
    LPIPS,
    PAPER_INFLUENCE,
    SIZED_CIFAR10,
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

GATE = "conditioning.controls.original_size.gate"
ARMS = {"constant": Arm((f"{GATE}={{kind: constant}}",))} | {
    f"alpha {alpha}": Arm((f"{GATE}={{kind: power_cosine, alpha: {alpha}}}",)) for alpha in (1, 2, 4, 8)
}
TWO = {name: ARMS[name] for name in ("constant", "alpha 8")}
SWEEP = Sweep("size", SIZES)
CIFAR_SIZES = ("8x8", "12x12", "16x16", "24x24", "32x32")
BY_CLASS = ("conditioning.controls=[{kind: original_size}, {kind: flip}]",)

SHAPES = Setting(
    "shapes",
    "demo",
    ARMS,
    protocol(influence(), content_change(), control_effect(), agreement=40, sweeps=(SWEEP,)),
    (*SIZED_SHAPES, *budget(12_000)),
    seeds=3,
)
PHOTOGRAPHS = Setting(
    "photographs",
    "cifar10-dit",
    ARMS,
    protocol(influence(CIFAR_SIZES, ("8x8", "12x12"), pictures=64), sweeps=(Sweep("size", CIFAR_SIZES),)),
    (*SIZED_CIFAR10, *BY_CLASS, *budget(12_800, 2e-3)),
)
STUDY = Study(
    name="control-parametrisation",
    title="When should the size of the original act?",
    shows="table 2a",
    question="Does a size control that enters late, by a power-cosine gate, leave the content alone, and at what quality?",
    claim=(
        "A gate that is shut at noise lowers the change of content with the size control (LPIPS between sizes), the more the"
        " later it opens, and does not cost FID; alpha = 8 is chosen."
    ),
    expectations=(
        Expectation("alpha 8", "constant", "control_influence_large"),
        Expectation("alpha 8", "constant", "control_influence"),
        Expectation("alpha 8", "alpha 1", "control_influence_large"),
        Expectation("alpha 8", "constant", "content_change"),
        Expectation("alpha 8", "constant", "fid"),
        Expectation("alpha 8", "constant", "held_out_loss"),
    ),
    scales={
        "tiny": [Setting("shapes", "demo", TWO, SHAPES.protocol, (*SIZED_SHAPES, *budget(3200)))],
        "small": [SHAPES, PHOTOGRAPHS],
        "paper": [
            Setting(
                "imagenet 256 px",
                "imagenet256-mmdit-xl2-improved",
                ARMS,
                paper_protocol(PAPER_INFLUENCE, also=(LPIPS,), sweeps=(Sweep("size", ("64x64", "256x256", "1024x1024")),)),
                seeds=1,
            )
        ],
    },
)
