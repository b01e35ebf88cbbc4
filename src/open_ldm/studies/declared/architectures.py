"""Table 1: five denoisers, each as published, under one common recipe, and with the improved conditioning."""

from __future__ import annotations

from dataclasses import replace

from open_ldm.studies.declared.data import CIFAR10, CLIP, SIZED_SHAPES, budget, influence, paper_protocol, protocol
from open_ldm.studies.study import Arm, Expectation, Setting, Study

KINDS = ("unet", "dit", "mdtv2", "pixart", "mmdit")
BASELINE = (
    "conditioning.semantic={kind: class, route: modulation}",
    "conditioning.controls=[{kind: original_size, gate: {kind: constant}}, {kind: flip, gate: {kind: constant}}]",
)
IMPROVED = (
    "conditioning.semantic={kind: class, route: context}",
    "conditioning.controls=[{kind: original_size, gate: {kind: power_cosine, alpha: 8}}, {kind: flip}]",
)
SMALL = {kind: f"denoiser={{kind: {kind}, size: XS{'' if kind == 'unet' else ', patch: 4'}}}" for kind in KINDS}
ARMS = {
    f"{kind}, {name}": Arm((SMALL[kind], *changes))
    for kind in KINDS
    for name, changes in (("baseline", BASELINE), ("improved", IMPROVED))
}

PUBLISHED = {
    "unet": "imagenet256-unet-ldm4g",
    "dit": "imagenet256-dit-xl2",
    "mdtv2": "imagenet256-mdtv2-xl2",
    "pixart": "imagenet256-pixart-xl2",
    "mmdit": "imagenet256-mmdit-xl2",
}
COMMON = (
    "conditioning.semantic={kind: class, route: modulation}",
    "conditioning.controls=[{kind: original_size, gate: {kind: constant}}, {kind: crop}, {kind: flip}]",
)
COMMON_TRAINING = (
    "training.samples=716800000",
    "training.batch_size=2048",
    "training.optimizer={learning_rate: 1.0e-3, betas: [0.9, 0.95], warmup_samples: 2048000}",
    "training.ema={decay: 0.9999}",
)
PAPER_ARMS = {
    f"{kind}, {name}": arm
    for kind, recipe in PUBLISHED.items()
    for name, arm in (
        ("published", Arm(recipe=recipe)),
        ("baseline", Arm((*COMMON, *COMMON_TRAINING), f"{recipe}-improved")),
        ("improved", Arm(COMMON_TRAINING, f"{recipe}-improved")),
    )
}
CAPTIONED = {
    "unet": Arm(recipe="cc12m256-unet-ldm4g-improved"),
    "dit": Arm(("denoiser={kind: dit, size: XL, patch: 2}",)),
    "mdtv2": Arm(("denoiser={kind: mdtv2, size: XL, patch: 2, decode_layers: 4}",)),
    "pixart": Arm(recipe="cc12m256-pixart-xl2-improved"),
    "mmdit": Arm(),
}
CAPTIONED_BASELINE = (
    "conditioning.semantic.padding=zero",
    "conditioning.controls=[{kind: original_size, gate: {kind: constant}}, {kind: crop}, {kind: flip}]",
)
CAPTIONED_ARMS = {
    f"{kind}, {name}": replace(arm, changes=(*arm.changes, *changes))
    for kind, arm in CAPTIONED.items()
    for name, changes in (("baseline", CAPTIONED_BASELINE), ("improved", ()))
}
CLASSES = f"data.source={{kind: shrunk, of: {{kind: shards, path: {CIFAR10}}}, short_side_px: [8, 32]}}"

STUDY = Study(
    name="architectures",
    title="Five denoisers under one roof",
    shows="table 1",
    question="Which denoiser is best under equal conditions, and does the improved conditioning help each of them?",
    claim=(
        "Under one common recipe mmDiT-XL/2 is the best of the five, and the improved conditioning lowers its FID further,"
        " below all published recipes."
    ),
    expectations=(
        *(Expectation(f"{kind}, improved", f"{kind}, baseline", "fid") for kind in KINDS),
        *(Expectation("mmdit, improved", f"{kind}, improved", "fid") for kind in KINDS if kind != "mmdit"),
        *(Expectation(f"{kind}, improved", f"{kind}, baseline", "held_out_loss") for kind in KINDS),
        *(Expectation(f"{kind}, improved", f"{kind}, baseline", "control_influence_large") for kind in KINDS),
        *(Expectation(f"{kind}, improved", f"{kind}, published", "fid") for kind in KINDS),
        *(Expectation(f"{kind}, improved", f"{kind}, baseline", "clip_score", "higher") for kind in KINDS),
    ),
    scales={
        "tiny": [
            Setting(
                "shapes by class",
                "demo",
                ARMS,
                protocol(influence(pictures=16), held_out=100, pictures=160),
                (*SIZED_SHAPES, *budget(2000, 2e-3)),
            )
        ],
        "small": [
            Setting(
                "photographs",
                "cifar10-dit",
                ARMS,
                protocol(influence(("8x8", "12x12", "16x16", "24x24", "32x32"), ("8x8", "12x12"))),
                (CLASSES, "data.holdout={share: 0.05}", *budget(12_000, 2e-3)),
                seeds=3,
            )
        ],
        "paper": [
            Setting("imagenet 256 px", "imagenet256-mmdit-xl2-improved", PAPER_ARMS, paper_protocol()),
            Setting("cc12m 256 px", "cc12m256-mmdit-xl2-improved", CAPTIONED_ARMS, paper_protocol("clip_score", also=(CLIP,))),
        ],
    },
    notes=(
        "Budget and optimiser are common; at paper scale each denoiser keeps the loss and schedule it was published with on"
        " classes. With captions all have one loss and schedule; padding and the gate of the size make the difference."
    ),
)
