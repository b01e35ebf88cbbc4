"""Parameter counts of the published sizes, on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from open_ldm.conditioning import Conditioning, ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls import ViewShape
from open_ldm.denoisers import DiTConfig, MDTv2Config, MMDiTConfig, PixArtConfig, Slots, UNetConfig, build_denoiser
from open_ldm.model.count import count_model
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.text.words import WordsConfig

PATCHES = 256  # of 32 x 32 latents; the published table of positions counts as parameters, ours is computed


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize(
    ("size", "published"), [("S", 32_963_360), ("B", 130_512_416), ("L", 458_102_816), ("XL", 675_129_632)]
)
def test_dit(size: Any, published: int) -> None:
    config = DiTConfig(size=size, patch=2)
    with torch.device("meta"):
        denoiser = build_denoiser(config, Slots(4, None, learned_variance=True))
        classes = Conditioning(ClassSemantic(route="modulation"), (), config.modulation_dim, classes=1000)
    assert count(denoiser, classes) + PATCHES * config.modulation_dim == published


@pytest.mark.parametrize(
    ("geometry", "published", "gmacs"),
    [
        ({"size": "S"}, 38_454_872, 6.74),
        ({"size": "S", "decode_layers": 4}, 38_159_576, 6.66),
        ({"size": "B"}, 150_931_856, 25.42),
        ({"size": "L"}, 507_015_776, 88.21),
        ({"size": "XL"}, 742_263_904, 129.49),
    ],
)
def test_mdtv2(geometry: dict[str, Any], published: int, gmacs: float) -> None:
    """All of it is trained: position tables and side block too. The sampling pass is counted."""
    facts = DataFacts(4, ViewShape(256, 256, 256), class_names=tuple(map(str, range(1000))))
    by_class = ConditioningConfig(semantic=ClassSemantic(route="modulation"))
    found = count_model(ModelSpec(ProcessConfig(learned_variance=True), by_class, MDTv2Config(**geometry), facts), (32, 32))
    assert found.parameters == published
    assert found.gmacs == pytest.approx(gmacs, rel=1e-3)


@pytest.mark.parametrize(
    ("geometry", "published"),
    [
        ({"size": "S"}, 65_018_176),
        ({"size": "B"}, 254_784_064),
        ({"size": "L"}, 903_952_448),
        ({"size": "XL"}, 1_334_262_592),
        ({"depth": 18, "width": 1152, "heads": 18}, 856_159_552),
        ({"depth": 24, "width": 1536, "heads": 24}, 2_028_328_000),
    ],
)
def test_mmdit(geometry: dict[str, Any], published: int) -> None:
    config = MMDiTConfig(**geometry, patch=2)
    width = config.modulation_dim
    with torch.device("meta"):
        denoiser = build_denoiser(config, Slots(16, 4096))
        pooled = nn.Sequential(nn.Linear(2048, width), nn.SiLU(), nn.Linear(width, width))
    assert count(denoiser, pooled) == published


@pytest.mark.parametrize(
    ("size", "published", "gmacs"),
    [
        ("S", 31_273_376, 7.87),
        ("B", 121_529_120, 29.30),
        ("L", 416_027_680, 101.61),
        ("XL", 610_856_096, 149.05),
    ],
)
def test_pixart(size: Any, published: int, gmacs: float) -> None:
    config = PixArtConfig(size=size, patch=2)
    with torch.device("meta"):
        assert count(build_denoiser(config, Slots(4, 4096, learned_variance=True))) == published
    text = TextSemantic(encoder=WordsConfig(length=120, width=4096), padding="mask")
    facts = DataFacts(4, ViewShape(256, 256, 256), words=("word",))
    process = ProcessConfig(learned_variance=True)
    counted = count_model(ModelSpec(process, ConditioningConfig(semantic=text), config, facts), (32, 32))
    assert counted.gmacs == pytest.approx(gmacs, rel=1e-3)


LDM_8 = {"model_channels": 256, "multipliers": (1, 2, 4), "attention_factors": (1, 2, 4)}
TXT2IMG = {"model_channels": 320, "multipliers": (1, 2, 4, 4), "attention_factors": (1, 2, 4), "heads": 8}


@pytest.mark.parametrize(
    ("geometry", "channels", "side", "context", "published", "gmacs"),
    [
        ({"size": "L"}, 3, 64, 512, 400_920_579, 104.22),
        ({"size": "L"}, 4, 32, 512, 400_924_036, 25.24),
        ({**LDM_8, "head_dim": 32}, 4, 32, 512, 394_984_196, 57.04),
        ({"size": "S"}, 4, 32, 512, 58.0e6, 8.75),
        ({"size": "B"}, 4, 32, 512, 156.8e6, 23.0),
        ({"size": "L", "model_channels": 64}, 4, 32, 512, 47.0e6, 2.87),
        ({"size": "L", "model_channels": 128}, 4, 32, 512, 180.7e6, 11.3),
    ],
)
def test_unet(geometry: dict[str, Any], channels: int, side: int, context: int, published: float, gmacs: float) -> None:
    """Whole numbers of parameters are exact, those in millions are the reference's rounded ones."""
    facts = DataFacts(channels, ViewShape(256, 256, 256), class_names=tuple(map(str, range(1000))))
    by_class = ConditioningConfig(semantic=ClassSemantic(width=context))
    found = count_model(ModelSpec(ProcessConfig(), by_class, UNetConfig(**geometry), facts), (side, side))
    parameters = found.parameters - 1001 * context
    assert parameters == published if isinstance(published, int) else abs(parameters - published) <= 0.05e6
    assert found.gmacs == pytest.approx(gmacs, rel=1e-3, abs=0.015)  # 11.3 is rounded so far


def test_unets_of_other_conditions() -> None:
    """generative-models' imagenet-f8_cond without the MLP of its vector condition, and txt2img with 77 tokens."""
    facts = DataFacts(4, ViewShape(256, 256, 256), words=("word",))
    with torch.device("meta"):
        f8 = build_denoiser(UNetConfig(**LDM_8, head_dim=64), Slots(4, 1024))
        txt2img = build_denoiser(UNetConfig(**TXT2IMG), Slots(4, 1280))
    assert count(f8) == pytest.approx(405.2e6, abs=0.05e6)
    assert count(txt2img) == pytest.approx(872.3e6, abs=0.05e6)
    text = ConditioningConfig(semantic=TextSemantic(encoder=WordsConfig(length=77, width=1280), padding="zero"))
    spec = ModelSpec(ProcessConfig(), text, UNetConfig(**TXT2IMG), facts)
    assert count_model(spec, (32, 32)).gmacs == pytest.approx(91.0, rel=1e-3)
