"""Table 2a: how the size control enters. On drawings whose size depends on a colour that no caption tells."""

from __future__ import annotations

from open_ldm.studies.declared.data import (
    ENTANGLED_SIZES,
    LPIPS,
    PAPER_INFLUENCE,
    SMALL_NET,
    budget,
    coarse_change,
    content_change,
    control_effect,
    influence,
    paper_protocol,
    protocol,
)
from open_ldm.studies.study import Arm, ArmCurve, Expectation, Setting, Study, Sweep

GATE = "conditioning.controls.original_size.gate"
ALPHAS = (1, 2, 4, 8)
CONSTANT = f"{GATE}={{kind: constant}}"
FLOW: tuple[str, ...] = ()
TABLE = ("process={schedule: {kind: linear}, prediction: v}", "objective={times: {kind: uniform}}")
"""The linear table of DDPM, under which both clocks are one; v, since eps is learned too late at this size."""


def gated(alpha: float, clock: str = "noise_level") -> str:
    """The setting of a power-cosine gate."""
    return f"{GATE}={{kind: power_cosine, alpha: {alpha}, clock: {clock}}}"


ARMS = {
    "constant": Arm((CONSTANT, *FLOW)),
    **{f"alpha {alpha}": Arm((gated(alpha), *FLOW)) for alpha in ALPHAS},
    **{f"alpha {alpha} on t": Arm((gated(alpha, "time"), *FLOW)) for alpha in ALPHAS},
    "table, constant": Arm((CONSTANT, *TABLE)),
    **{f"table, alpha {alpha}": Arm((gated(alpha), *TABLE)) for alpha in ALPHAS},
}
PAPER_ARMS = {name: ARMS[name] for name in ("constant", *(f"alpha {alpha}" for alpha in ALPHAS))}
CURVES = (
    ArmCurve("flow, clock noise_level", {0: "constant", **{alpha: f"alpha {alpha}" for alpha in ALPHAS}}),
    ArmCurve("flow, clock time", {0: "constant", **{alpha: f"alpha {alpha} on t" for alpha in ALPHAS}}),
    ArmCurve("linear table, both clocks", {0: "table, constant", **{alpha: f"table, alpha {alpha}" for alpha in ALPHAS}}),
)
"""Alpha = 0 is the constant gate."""
DRAWN = protocol(
    content_change(ENTANGLED_SIZES, attributes=("colour",), pictures=96),
    control_effect(ENTANGLED_SIZES, pictures=96),
    "sliced_wasserstein",
    sweeps=(Sweep("size", ENTANGLED_SIZES),),
)
DRAWINGS = Setting("drawings", "shapes-entangled", ARMS, DRAWN, (*SMALL_NET, *budget(12_800, 8e-3, 32)), seeds=3)
PHOTOGRAPHS = Setting(
    "photographs",
    "cifar10-entangled",
    {name: ARMS[name] for name in ("constant", "alpha 2", "alpha 8 on t")},
    protocol(
        influence(ENTANGLED_SIZES, ("8x8",), pictures=96),
        coarse_change(ENTANGLED_SIZES, pictures=96),
        control_effect(ENTANGLED_SIZES, pictures=96),
        sweeps=(Sweep("size", ENTANGLED_SIZES),),
    ),
    ("denoiser.width=128", "denoiser.depth=4", "denoiser.heads=4", *budget(25_600, 2e-3, 32)),
    seeds=3,
)
STUDY = Study(
    name="control-parametrisation",
    title="When should the size of the original act?",
    shows="table 2a",
    question="Does a size control that enters late, by a power-cosine gate, leave the content alone and still do its work?",
    claim=(
        "A gate that is shut at noise keeps the size control from changing the content, which a constant gate lets it decide,"
        " and does not cost FID; alpha = 8 is chosen."
    ),
    expectations=(
        *(Expectation(f"alpha {alpha}", "constant", "content_change") for alpha in ALPHAS),
        Expectation("table, alpha 8", "table, constant", "content_change"),
        Expectation("alpha 2", "constant", "coarse_change"),
        Expectation("alpha 8 on t", "constant", "coarse_change"),
        Expectation("alpha 2", "alpha 8 on t", "control_effect", "higher"),
        Expectation("alpha 2", "alpha 8", "control_effect", "higher"),
        Expectation("alpha 8", "alpha 8 on t", "control_effect", "higher"),
        Expectation("alpha 8", "table, alpha 8", "control_effect", "higher"),
        Expectation("alpha 2", "constant", "fid"),
        Expectation("alpha 8", "constant", "fid"),
        Expectation("alpha 2", "constant", "held_out_loss"),
        Expectation("alpha 8", "constant", "held_out_loss"),
    ),
    scales={
        "tiny": [
            Setting(
                "drawings",
                "shapes-entangled",
                {name: ARMS[name] for name in ("constant", "alpha 2")},
                DRAWN,
                (*SMALL_NET, *budget(3200)),
            )
        ],
        "small": [DRAWINGS, PHOTOGRAPHS],
        "paper": [
            Setting(
                "imagenet 256 px",
                "imagenet256-mmdit-xl2-improved",
                PAPER_ARMS,
                paper_protocol(PAPER_INFLUENCE, also=(LPIPS,), sweeps=(Sweep("size", ("64x64", "256x256", "1024x1024")),)),
                seeds=1,
            )
        ],
    },
    notes=(
        "The original's size depends on what no caption states: on the colour of a drawing, on the class of a photograph."
        " Content change must stay low and control effect high; a control that is ignored has neither. Of photographs"
        " coarse change stands for content change: a classifier of this budget reads a third of real ones differently when made"
        " small."
    ),
    curves=CURVES,
    curves_over="alpha (0: constant gate)",
)
