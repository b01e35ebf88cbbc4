"""latent-diffusion's UNet: a file of random numbers comes back to the bit, and gives what diffusers makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from open_ldm.conditioning import ConditioningConfig, Conditions
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls import Flip
from open_ldm.core.config import validate
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.denoisers import Slots, UNetConfig
from open_ldm.denoisers.unet import UNet
from open_ldm.interop.family import Description
from open_ldm.interop.files import WeightFile
from open_ldm.interop.unet import UNetFamily, key_map
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.text import WordsConfig
from tests.denoisers.test_unet import BOUND
from tests.helpers import CLASSES, SMALL_UNET, VIEW, randn, relative
from tests.interop.unet_layout import original_unet

CONTEXT, CHANNELS = 12, 3
FAMILY = UNetFamily()
SIZES: list[tuple[int, tuple[int, ...], int, tuple[int, ...]]] = [
    (64, (1, 2, 3), 2, (2, 4)),
    (64, (1, 2), 1, (1,)),
    (32, (2, 2, 4, 2), 1, (2, 8)),
]
SEMANTIC = ClassSemantic(width=CONTEXT)


def published(size: int, scale_shift: bool = False) -> tuple[dict[str, Tensor], Description]:
    """The tensors of a file and what they say."""
    state = original_unet(*SIZES[size], CHANNELS, CONTEXT, scale_shift)
    file = WeightFile(Path("model.ckpt"), state, "")
    tensors = dict(FAMILY.tensors(file))
    return tensors, FAMILY.describe(file, tensors)


def config_of(description: Description, **more: Any) -> UNetConfig:
    settings = {name.removeprefix("denoiser."): value for name, value in description.settings.items()}
    return validate(
        UNetConfig, {name: settings[name] for name in settings if name in UNetConfig.model_fields} | more, source="test"
    )


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("size", range(len(SIZES)))
def test_an_original_file_comes_back_to_the_bit(size: int, scale_shift: bool) -> None:
    state, said = published(size, scale_shift)
    assert (said.classes, said.latent_side) == (5, 64)
    assert said.settings["conditioning.semantic"] == {"kind": "class", "route": "context", "width": CONTEXT}
    config = config_of(said)
    geometry, (base, multipliers, blocks, factors) = config.geometry, SIZES[size]
    assert (geometry.model_channels, geometry.multipliers, geometry.blocks_per_level) == (base, multipliers, blocks)
    assert geometry.attention_factors == factors
    assert config.adaptive_norm == ("scale_shift" if scale_shift else "shift")
    layout = key_map(config, "original", SEMANTIC)
    back = layout.write(layout.read(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("size", [0, 1])
def test_an_original_file_gives_what_diffusers_converter_makes_of_it(size: int, scale_shift: bool) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    state, said = published(size, scale_shift)
    config = config_of(said, heads=2)
    table = state["cond_stage_model.embedding.weight"]
    ours = UNet(config, Slots(CHANNELS, CONTEXT))
    read = key_map(config, "original", SEMANTIC).read(state)
    ours.load_state_dict({n.removeprefix("denoiser."): t for n, t in read.items() if n.startswith("denoiser.")})
    facts = DataFacts(CHANNELS, VIEW, tuple("abcde"), latent_size=(8, 8))
    theirs: nn.Module = FAMILY.peer(ModelSpec(ProcessConfig(), ConditioningConfig(semantic=SEMANTIC), config, facts))
    whole = {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()}
    theirs.load_state_dict(convert_ldm_unet_checkpoint(whole, dict(theirs.config)))
    x, time, tokens = randn(3, CHANNELS, 8, 12), torch.tensor([0.0, 500.0, 999.0]), table[[0, 3, 5]].unsqueeze(1)
    found = ours(x, time, Conditions(torch.zeros(3, config.modulation_dim), tokens)).mean
    wanted = theirs(x, time, encoder_hidden_states=tokens).sample
    assert relative(found, wanted) < BOUND and float(wanted.detach().abs().max()) > 0.1


@pytest.mark.parametrize("layout", ["original", "diffusers"])
@pytest.mark.parametrize(
    ("geometry", "context"),
    [
        ({"size": "L"}, 512),
        ({"model_channels": 256, "multipliers": (1, 2, 4), "attention_factors": (1, 2, 4), "head_dim": 32}, 512),
        ({"model_channels": 256, "multipliers": (1, 2, 4), "attention_factors": (1, 2, 4), "head_dim": 64}, 1024),
        ({"model_channels": 320, "multipliers": (1, 2, 4, 4), "attention_factors": (1, 2, 4), "heads": 8}, 1280),
    ],
)
def test_the_geometry_of_published_models_is_read(geometry: dict[str, Any], context: int, layout: Any) -> None:
    config, semantic = UNetConfig(**geometry), ClassSemantic(width=context)
    facts = DataFacts(4, VIEW, CLASSES, latent_size=(32, 32))
    model = ModelSpec(ProcessConfig(learned_variance=True), ConditioningConfig(semantic=semantic), config, facts)
    with torch.device("meta"):
        ours = {f"denoiser.{name}": tensor for name, tensor in UNet(config, Slots(4, context, True)).state_dict().items()}
        ours["conditioning.semantic.table.weight"] = torch.empty(len(CLASSES) + 1, context)
        theirs = FAMILY.key_map(model, layout).write(ours)
        about = dict(FAMILY.peer(model).config) if layout == "diffusers" else {}
    said = FAMILY.describe(WeightFile(Path("file"), theirs, "", config=about), theirs)
    assert config_of(said).geometry == config.geometry
    assert said.settings.keys() & {"denoiser.heads", "denoiser.head_dim"}
    assert said.settings["process.learned_variance"] and said.settings["autoencoder.channels"] == 4
    assert said.classes == (len(CLASSES) if layout == "original" else 0)  # diffusers' folder holds no class tokens


@pytest.mark.parametrize("semantic", [ClassSemantic(), ClassSemantic(route="modulation"), TextSemantic(encoder=WordsConfig())])
@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_a_model_of_ours_comes_back_to_the_bit(layout: Any, semantic: Any) -> None:
    config = UNetConfig(**SMALL_UNET, transformer_depth=2)
    context = None if semantic.route == "modulation" else 32
    ours = {f"denoiser.{name}": tensor for name, tensor in UNet(config, Slots(3, context)).state_dict().items()}
    if isinstance(semantic, ClassSemantic) and (semantic.route == "modulation" or layout == "original"):
        ours["conditioning.semantic.table.weight"] = randn(6, 32)
    moves = key_map(config, layout, semantic)
    back = moves.read(moves.write(ours))
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


@pytest.mark.parametrize(
    ("geometry", "conditioning", "said"),
    [
        ({}, ConditioningConfig(semantic=ClassSemantic(), controls=(Flip(),)), "control conditions flip"),
        ({}, ConditioningConfig(semantic=TextSemantic(encoder=WordsConfig(), route="both")), "pooled text vector"),
        ({"multipliers": (2, 2)}, ConditioningConfig(), "multipliers that begin with 1"),
    ],
)
def test_what_diffusers_cannot_hold_is_refused_by_name(geometry: Any, conditioning: ConditioningConfig, said: str) -> None:
    config = UNetConfig(**(SMALL_UNET | geometry))
    with pytest.raises(ConfigError, match=said):
        FAMILY.peer(ModelSpec(ProcessConfig(), conditioning, config, DataFacts(3, VIEW, CLASSES)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_linear_projection": True}, "use_linear_projection=True"),
        ({"layers_per_block": [1, 2]}, r"layers_per_block=\[1, 2\]"),
        ({"attention_head_dim": [3, 7]}, r"\[3, 7\] heads"),
        ({"block_out_channels": [8, 20]}, "20 channels"),
        ({"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}, "other levels"),
    ],
)
def test_another_kind_of_unet_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    config = {
        "block_out_channels": [8, 16],
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    }
    state = {"conv_in.weight": randn(8, 3, 3, 3), "conv_out.weight": randn(3, 8, 3, 3)}
    with pytest.raises(CheckpointError, match=said):
        FAMILY.describe(WeightFile(Path("unet"), state, "", config=config | change), state)
