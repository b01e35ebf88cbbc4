"""Table 1: five denoisers, each as published, under one common recipe, and with the improved conditioning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from open_ldm.studies.declared.data import (
    CLIP,
    ENTANGLED_SIZES,
    SIZED_SHAPES,
    budget,
    coarse_change,
    content_change,
    control_effect,
    influence,
    paper_protocol,
    protocol,
)
from open_ldm.studies.study import Arm, Expectation, Setting, Study, Sweep

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
ONE_DECODER_BLOCK = {"mdtv2": ", decode_layers: 1"}
QUICK_KINDS = {
    kind: "denoiser={kind: unet, size: XS, model_channels: 16, heads: 2}"
    if kind == "unet"
    else f"denoiser={{kind: {kind}, size: XS, patch: 4, width: 64, depth: 3, heads: 4{ONE_DECODER_BLOCK.get(kind, '')}}}"
    for kind in KINDS
}
DRAWN_CONTROLS = "conditioning.controls=[{kind: original_size, gate: {kind: %s}}]"
DRAWN_ARMS = {
    f"{kind}, {name}": Arm((QUICK_KINDS[kind], f"conditioning.semantic={{kind: class, route: {route}}}", DRAWN_CONTROLS % gate))
    for kind in KINDS
    for name, route, gate in (
        ("baseline", "modulation", "constant"),
        ("improved", "context", "power_cosine, alpha: 2"),
    )
}
"""Classes are the kinds of drawings; no class tells the colour, on which the original size depends."""
DRAWN = protocol(
    content_change(ENTANGLED_SIZES, attributes=("colour",), pictures=96),
    control_effect(ENTANGLED_SIZES, pictures=96),
)
PHOTOGRAPH_KINDS = ("dit", "mmdit")
PHOTOGRAPH_NET = "denoiser={kind: %s, size: XS, patch: 4, width: 128, depth: 4, heads: 4}"
LATE_SIZE = (
    "conditioning.semantic={kind: class, route: context}",
    "conditioning.controls=[{kind: original_size, gate: {kind: power_cosine, alpha: 2}}, {kind: flip}]",
)
"""The improved conditioning with the alpha that serves best in pixels of 32 px: at alpha 8 the size does next to nothing."""
PHOTOGRAPHS = Setting(
    "photographs",
    "cifar10-entangled",
    {
        f"{kind}, {name}": Arm((PHOTOGRAPH_NET % kind, *changes))
        for kind in PHOTOGRAPH_KINDS
        for name, changes in (("baseline", BASELINE), ("improved", LATE_SIZE))
    },
    protocol(
        coarse_change(ENTANGLED_SIZES, pictures=96),
        control_effect(ENTANGLED_SIZES, pictures=96),
        sweeps=(Sweep("size", ENTANGLED_SIZES),),
    ),
    budget(16_000, 2e-3, 32),
    seeds=3,
)
"""The size goes with the class, of which only `vehicle` or `animal` is told."""

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("imagenet256-unet-ldm4g", {"solver": "ddim", "steps": 250}),
    "dit": ("imagenet256-dit-xl2", {"solver": "ddpm", "steps": 250}),
    "mdtv2": ("imagenet256-mdtv2-xl2", {"solver": "ddpm", "steps": 250}),
    "pixart": ("imagenet256-pixart-xl2", {"solver": "dpmpp_2m", "steps": 20}),
    "mmdit": ("imagenet256-mmdit-xl2", {"solver": "heun", "steps": 50}),
}
"""The recipe with published settings, and the sampler it is measured with: its own."""
COMMON = "imagenet256-mmdit-xl2-improved-ddpm"
LARGE = {
    "unet": "denoiser={kind: unet, size: L}",
    "dit": "denoiser={kind: dit, size: XL, patch: 2}",
    "mdtv2": "denoiser={kind: mdtv2, size: XL, patch: 2, decode_layers: 4, mask_ratio: 0.3, mask_spread: 0.2}",
    "pixart": "denoiser={kind: pixart, size: XL, patch: 2, positions: {kind: grid, base: 16}}",
    "mmdit": "denoiser={kind: mmdit, size: XL, patch: 2}",
}
LARGE_BASELINE = (
    "conditioning.semantic={kind: class, route: modulation}",
    "conditioning.controls=[{kind: original_size, gate: {kind: constant}}, {kind: crop}, {kind: flip}]",
)
PAPER_ARMS = {
    f"{kind}, {name}": arm
    for kind, (recipe, sampler) in PUBLISHED.items()
    for name, arm in (
        ("published", Arm(recipe=recipe, sampling=sampler)),
        ("baseline", Arm((LARGE[kind], *LARGE_BASELINE))),
        ("improved", Arm((LARGE[kind],))),
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
        *(Expectation(f"{kind}, improved", f"{kind}, baseline", "content_change") for kind in KINDS),
        *(Expectation(f"{kind}, improved", f"{kind}, baseline", "coarse_change") for kind in KINDS),
        *(Expectation(f"{kind}, improved", 0, "control_effect", "higher") for kind in KINDS),
        *(Expectation(f"{kind}, improved", f"{kind}, baseline", "control_effect", "higher") for kind in KINDS),
        *(Expectation(f"{kind}, improved", f"{kind}, published", "fid") for kind in KINDS),
        *(Expectation(f"{kind}, improved", f"{kind}, baseline", "clip_score", "higher") for kind in KINDS),
    ),
    scales={
        "tiny": [
            Setting(
                "shapes by class",
                "demo@1",
                ARMS,
                protocol(influence(pictures=16), held_out=100, pictures=160),
                (*SIZED_SHAPES, *budget(2000, 2e-3)),
            )
        ],
        "small": [
            Setting("drawings", "shapes-entangled", DRAWN_ARMS, DRAWN, budget(12_800, 4e-3, 32), seeds=3),
            PHOTOGRAPHS,
        ],
        "paper": [
            Setting("imagenet 256 px", COMMON, PAPER_ARMS, paper_protocol()),
            Setting("cc12m 256 px", "cc12m256-mmdit-xl2-improved", CAPTIONED_ARMS, paper_protocol("clip_score", also=(CLIP,))),
        ],
    },
    notes=(
        "The five baseline arms differ in the denoiser alone, and so do the five improved arms: data, autoencoder, noise, loss,"
        " optimiser, budget and sampler are common (at paper scale DDPM's table, eps and DDIM). Published arms keep all of"
        " their own, their sampler too. At small scale the original's size depends on what no condition tells: on the colour of"
        " a drawing, on the class of a photograph within vehicles or animals. Content change and coarse change must stay low"
        " and control effect high; a control that is ignored has neither."
    ),
)
