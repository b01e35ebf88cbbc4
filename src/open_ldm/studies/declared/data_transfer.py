"""Table 4a: pre-training on another data set."""

from __future__ import annotations

from collections.abc import Mapping

from open_ldm.studies.declared.data import CIFAR10, SHAPES, SMALL_NET, budget, paper_protocol, protocol
from open_ldm.studies.study import Arm, Expectation, Setting, Source, Start, Study

CLASSES = (
    f"data.source={{kind: shards, path: {CIFAR10}}}",
    "data.holdout=null",
    "conditioning.semantic={kind: class, route: context}",
)
"""The other data set: photographs of ten classes instead of captioned shapes."""


def _setting(
    samples: int, pretrain: int, rate: float = 2e-3, batch: int = 16, net: tuple[str, ...] = (), seeds: int = 1
) -> Setting:
    """Arms with the budget `samples`, besides a pre-training of `pretrain`; one without it gets both."""

    def trained(count: int) -> tuple[str, ...]:
        return budget(count, rate, batch)

    arms = {
        "from scratch": Arm(),
        "after classes": Arm(start=Start("classes")),
        "after classes, a quarter of the budget": Arm(trained(samples // 4), start=Start("classes")),
        "from scratch, as much in all": Arm(trained(samples + pretrain)),
    }
    source = Source("demo@1", (*CLASSES, *net, *trained(pretrain)))
    changes = (*SHAPES, *net, *trained(samples))
    return Setting("shapes", "demo@1", arms, protocol(agreement=80), changes, seeds, {"classes": source})


MMDIT_22K = "imagenet22k256-mmdit-xl2-improved"
UNET = ("denoiser={kind: unet, size: L}", "conditioning.semantic={kind: class, route: context, width: 512}")


def _paper_arms(classes: bool) -> Mapping[str, Arm]:
    start = Start("imagenet 22k", {"classes": "match"} if classes else {})
    tenth = Arm(("training.samples=71680000",), start=start)
    return {"from scratch": Arm(), "after imagenet 22k": Arm(start=start), "after imagenet 22k, a tenth of the budget": tenth}


STUDY = Study(
    name="data-transfer",
    title="Does pre-training on other pictures pay?",
    shows="table 4a",
    question="Is a model that starts from one of another data set better at equal budget, and as good at a shorter one?",
    claim="Pre-training on another data set gives a better FID at equal budget, and reaches that from scratch in less time.",
    expectations=(
        Expectation("after classes", "from scratch", "fid"),
        Expectation("after classes", "from scratch", "held_out_loss"),
        Expectation("after classes", "from scratch", "agreement", "higher"),
        Expectation("after classes", "from scratch, as much in all", "fid"),
        Expectation("after classes, a quarter of the budget", "from scratch", "fid"),
        Expectation("after classes, a quarter of the budget", "from scratch", "held_out_loss"),
        Expectation("after imagenet 22k", "from scratch", "fid"),
        Expectation("after imagenet 22k, a tenth of the budget", "from scratch", "fid"),
    ),
    scales={
        "tiny": [_setting(4000, 4000)],
        "small": [_setting(12_800, 51_200, 8e-3, 32, SMALL_NET, seeds=3)],
        "paper": [
            Setting(name, recipe, _paper_arms(classes), paper_protocol(), sources={"imagenet 22k": source})
            for name, recipe, classes, source in (
                ("imagenet 256 px, mmdit", "imagenet256-mmdit-xl2-improved", True, Source(MMDIT_22K)),
                ("imagenet 256 px, unet", "imagenet256-unet-ldm4g-improved", True, Source(MMDIT_22K, UNET)),
                ("cc12m 256 px, mmdit", "cc12m256-mmdit-xl2-improved", False, Source(MMDIT_22K)),
            )
        ],
    },
)
