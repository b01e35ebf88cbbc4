"""Figures A3 and A4: where attention and gradient go among the positions of a caption."""

from __future__ import annotations

from open_ldm.studies.declared.data import QUICK, budget
from open_ldm.studies.declared.text_padding import ARMS, FEW_OF_MANY, TWO_SHAPES
from open_ldm.studies.study import Expectation, Protocol, Setting, Study

MEASURED = Protocol(metrics=({"kind": "held_out_loss", "pictures": 200},), features=None, tokens=128, sampling={"steps": 12})
PAPER = Protocol(metrics=({"kind": "held_out_loss", "pictures": 200},), features=None, tokens=128)
STUDY = Study(
    name="token-influence",
    title="Where do attention and gradient go?",
    shows="figures A3 and A4",
    question="How much attention and gradient does each padding kind draw away from the words?",
    claim="Zero padding draws attention and gradient though it means nothing; copies of the words put that share to use.",
    expectations=(
        Expectation("replicate", "zero", "gradient_padding", "higher"),
        Expectation("noisy replicate", "zero", "gradient_padding", "higher"),
        Expectation("noisy replicate", "replicate", "gradient_padding", "higher"),
        Expectation("noisy replicate", "zero", "attention_padding", "higher"),
    ),
    scales={
        "tiny": [Setting("shapes", "demo@1", ARMS, MEASURED, (*TWO_SHAPES, *budget(4800)))],
        "small": [Setting("shapes", "demo@1", ARMS, MEASURED, (*FEW_OF_MANY, *QUICK), seeds=3)],
        "paper": [
            Setting("cc12m 256 px", "cc12m256-mmdit-xl2-improved", ARMS, PAPER, ("data.holdout={share: 0.001}",)),
        ],
    },
)
