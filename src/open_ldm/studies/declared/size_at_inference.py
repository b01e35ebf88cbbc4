"""Table 2b: which size to ask for when sampling."""

from __future__ import annotations

from open_ldm.studies.declared.data import PAPER_SIZES, QUICK, SIZED_SHAPES, SIZES, budget, paper_protocol, protocol
from open_ldm.studies.study import Arm, Expectation, Setting, Study, Sweep


def _arms(sizes: tuple[str, ...]) -> dict[str, Arm]:
    """One training, sampled at every size."""
    first = f"size={sizes[0]}"
    return {f"size={size}": Arm(run=None if f"size={size}" == first else first, controls={"size": size}) for size in sizes}


MEASURED = protocol("precision_recall", agreement=40, sweeps=(Sweep("size", SIZES),))
STUDY = Study(
    name="size-at-inference",
    title="Which size to ask for?",
    shows="table 2b",
    question="How does the quality of samples change with the size that is given at sampling?",
    claim="The FID of one model depends on the size given at sampling; small sizes give coarse pictures and a worse FID.",
    expectations=(
        Expectation("size=32x32", "size=8x8", "fid"),
        Expectation("size=64x64", "size=8x8", "fid"),
        Expectation("size=256x256", "size=64x64", "fid"),
    ),
    scales={
        "tiny": [Setting("shapes", "demo@1", _arms(SIZES), MEASURED, (*SIZED_SHAPES, *budget(4000)))],
        "small": [Setting("shapes", "demo@1", _arms(SIZES), MEASURED, (*SIZED_SHAPES, *QUICK), seeds=3)],
        "paper": [
            Setting("imagenet 256 px", "imagenet256-mmdit-xl2-improved", _arms(PAPER_SIZES), paper_protocol("precision_recall"))
        ],
    },
    notes="All arms share one training. The data hold originals of every size, so that no single size matches all of them.",
)
