"""Figure A2: Adam's betas."""

from __future__ import annotations

import itertools

from open_ldm.studies.declared.data import QUICK, SHAPES, budget, paper_protocol, protocol
from open_ldm.studies.study import Arm, Expectation, Setting, Study


def _arms(first: tuple[float, ...], second: tuple[float, ...]) -> dict[str, Arm]:
    pairs = itertools.product(first, second)
    return {f"{one:g}, {two:g}": Arm((f"training.optimizer.betas=[{one}, {two}]",)) for one, two in pairs}


MEASURED = protocol(agreement=40)
DDIM_50 = {"solver": "ddim", "steps": 50, "guidance": {"semantic_scale": 1.0}}
VALIDATED = protocol(agreement=80, reference="held_out", sampling=DDIM_50)
"""As the figure's caption says: 50 sampling steps, against pictures that were not trained on."""
STUDY = Study(
    name="adam-betas",
    title="Adam's betas",
    shows="figure A2",
    question="Which pair of Adam's betas trains best?",
    claim="A grid search preferred (0.9, 0.95) to the default (0.9, 0.999) (second-hand; the grid here is ours).",
    expectations=(
        Expectation("0.9, 0.95", "0.9, 0.999", "fid"),
        Expectation("0.9, 0.95", "0.9, 0.999", "held_out_loss"),
    ),
    scales={
        "tiny": [Setting("shapes", "demo@1", _arms((0.8, 0.9), (0.9, 0.95, 0.999)), MEASURED, (*SHAPES, *budget(2400)))],
        "small": [
            Setting(
                "shapes",
                "demo@1",
                _arms((0.8, 0.9, 0.95), (0.9, 0.95, 0.999)),
                VALIDATED,
                (*SHAPES[:1], "data.holdout={share: 0.1}", *QUICK),
                seeds=3,
            )
        ],
        "paper": [
            Setting(
                "imagenet 256 px",
                "imagenet256-unet-ldm4g-improved",
                _arms((0.8, 0.9, 0.95), (0.9, 0.95, 0.99, 0.999)),
                paper_protocol(sampling=DDIM_50, reference="imagenet/val"),
                ("training.samples=143360000",),
            )
        ],
    },
    grid=("beta_1", "beta_2"),
)
