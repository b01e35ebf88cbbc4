"""Table 4a: pre-training on another data set."""

from __future__ import annotations

from collections.abc import Mapping

from open_ldm.studies.declared.data import CIFAR10, SHAPES, budget, paper_protocol, protocol
from open_ldm.studies.study import Arm, Expectation, Setting, Source, Start, Study

CLASSES = (
    f"data.source={{kind: shards, path: {CIFAR10}}}",
    "data.holdout=null",
    "conditioning.semantic={kind: class, route: context}",
)
"""The other data set: photographs of ten classes instead of captioned shapes."""


def _arms(samples: int) -> Mapping[str, Arm]:
    shorter = samples // 4
    return {
        "from scratch": Arm(),
        "from classes": Arm(start=Start("classes")),
        "from classes, a quarter of the budget": Arm(budget(shorter), start=Start("classes")),
    }


def _setting(samples: int, pretrain: int, seeds: int = 1) -> Setting:
    source = Source("demo", (*CLASSES, *budget(pretrain, 2e-3)))
    changes = (*SHAPES, *budget(samples, 2e-3))
    return Setting("shapes", "demo", _arms(samples), protocol(agreement=40), changes, seeds, {"classes": source})


STUDY = Study(
    name="data-transfer",
    title="Does pre-training on other pictures pay?",
    shows="table 4a",
    question="Is a model that starts from one of another data set better at equal budget, and as good at a shorter one?",
    claim="Pre-training on another data set gives a better FID at equal budget, and reaches that from scratch in less time.",
    expectations=(
        Expectation("from classes", "from scratch", "fid"),
        Expectation("from classes", "from scratch", "held_out_loss"),
        Expectation("from classes", "from scratch", "agreement", "higher"),
        Expectation("from classes, a quarter of the budget", "from scratch", "fid"),
        Expectation("from imagenet 22k", "from scratch", "fid"),
        Expectation("from imagenet 22k, a tenth of the budget", "from scratch", "fid"),
    ),
    scales={
        "tiny": [_setting(4000, 4000)],
        "small": [_setting(16_000, 32_000, seeds=3)],
        "paper": [
            Setting(
                "imagenet 256 px",
                "imagenet256-mmdit-xl2-improved",
                {
                    "from scratch": Arm(),
                    "from imagenet 22k": Arm(start=Start("imagenet 22k", {"classes": "match"})),
                    "from imagenet 22k, a tenth of the budget": Arm(
                        ("training.samples=71680000",), start=Start("imagenet 22k", {"classes": "match"})
                    ),
                },
                paper_protocol(),
                sources={"imagenet 22k": Source("imagenet22k256-mmdit-xl2-improved")},
            )
        ],
    },
)
