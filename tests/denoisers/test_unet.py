"""The UNet against diffusers' UNet2DConditionModel with the same weights, and what is its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning import ConditioningConfig, Conditions
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic
from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers import Slots, UNetConfig, build_denoiser
from open_ldm.denoisers.blocks.convolution import Conv2d, Pointwise
from open_ldm.denoisers.unet import UNet
from open_ldm.interop.unet import UNetFamily
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.process.schedules import ScaledLinearSchedule, build_schedule
from tests.denoisers.test_parity import output_and_gradient, same
from tests.helpers import SMALL_UNET, VIEW, randn, randomise, relative

GEOMETRY: dict[str, Any] = {"model_channels": 16, "multipliers": (1, 2, 3), "blocks_per_level": 2, "groups": 4}
HEADS: list[dict[str, Any]] = [{"heads": 1, "attention_factors": (2, 4)}, {"head_dim": 16, "attention_factors": (1, 4)}]
CLASSES = ("a", "b", "c", "d", "e")
FAMILY = UNetFamily()
BOUND = 3e-5
"""Of the largest number: 500 float32 roundings. Its deepest sums and norms need 70, by whatever library."""


def peer_of(ours: UNet, semantic: NoSemantic | ClassSemantic, table: Tensor | None = None) -> nn.Module:
    """diffusers' class with the same weights; `table`: of classes, where they go with the time."""
    facts = DataFacts(ours.slots.channels, VIEW, CLASSES, latent_size=(8, 8))
    model = ModelSpec(
        ProcessConfig(learned_variance=ours.slots.learned_variance), ConditioningConfig(semantic=semantic), ours.config, facts
    )
    state = {f"denoiser.{name}": tensor for name, tensor in ours.state_dict().items()}
    if table is not None:
        state["conditioning.semantic.table.weight"] = table
    theirs = FAMILY.peer(model)
    theirs.load_state_dict(FAMILY.key_map(model, "diffusers").write(state))
    return theirs


def small(**changes: Any) -> UNetConfig:
    return UNetConfig(**(SMALL_UNET | changes))


@pytest.mark.parametrize("t", [0.001, 0.5, 1.0])
@pytest.mark.parametrize("length", [1, 77])
@pytest.mark.parametrize("adaptive_norm", ["shift", "scale_shift"])
@pytest.mark.parametrize("heads", HEADS, ids=["one head", "heads of 16"])
def test_same_numbers_as_diffusers(heads: dict[str, Any], adaptive_norm: Any, length: int, t: float) -> None:
    config = UNetConfig(**GEOMETRY, **heads, adaptive_norm=adaptive_norm)
    ours = randomise(UNet(config, Slots(4, 20, learned_variance=length == 1)))
    x, context = randn(2, 4, 8, 12).requires_grad_(), randn(2, length, 20, seed=1)
    mask = None if length == 1 else torch.arange(length) < torch.tensor([[length], [length // 2]])
    time = build_schedule(ScaledLinearSchedule()).network_time(torch.full((2,), t))
    assert float(time[0]) == pytest.approx(1000 * t - 1, abs=1e-3)
    prediction = ours(x, time, Conditions(torch.zeros(2, config.modulation_dim), context, mask))
    parts = [prediction.mean] + ([] if prediction.variance_fraction is None else [prediction.variance_fraction])
    theirs = peer_of(ours, ClassSemantic(width=20))
    wanted = theirs(x, time, encoder_hidden_states=context, encoder_attention_mask=mask).sample
    same(output_and_gradient(torch.cat(parts, dim=1), x), output_and_gradient(wanted, x), BOUND)


@pytest.mark.parametrize("depth", [1, 2])
def test_same_numbers_without_a_context_and_with_the_class_in_the_modulation(depth: int) -> None:
    config = UNetConfig(**GEOMETRY, **HEADS[0], transformer_depth=depth)
    ours, table = randomise(UNet(config, Slots(4, None))), randn(6, config.modulation_dim)
    labels = torch.tensor([2, 5])  # the last one is the null class
    x, time = randn(2, 4, 8, 12).requires_grad_(), torch.tensor([3.0, 999.0])
    found = output_and_gradient(ours(x, time, Conditions(table[labels])).mean, x)
    theirs = peer_of(ours, ClassSemantic(route="modulation"), table)
    wanted = theirs(x, time, encoder_hidden_states=torch.zeros(2, 1, 1), class_labels=labels).sample
    same(found, output_and_gradient(wanted, x), BOUND)


def test_a_picture_without_a_context_token_is_drawn_without_a_nan() -> None:
    ours = randomise(UNet(UNetConfig(**GEOMETRY, **HEADS[0]), Slots(4, 20)))
    mask = torch.tensor([[False] * 3, [True, False, True]])
    x, context, other = randn(2, 4, 8, 12).requires_grad_(), randn(2, 3, 20, seed=1), randn(2, 3, 20, seed=2)
    drawn = [
        output_and_gradient(ours(x, torch.full((2,), 500.0), Conditions(torch.zeros(2, 64), tokens, mask)).mean, x)
        for tokens in (context, other)
    ]
    for one, two in zip(*drawn, strict=True):
        assert one.isfinite().all() and torch.equal(one[0], two[0]) and not torch.equal(one[1], two[1])


def test_every_norm_has_the_epsilon_and_groups_of_diffusers() -> None:
    """Random activations are too large to show them."""
    ours = UNet(UNetConfig(**GEOMETRY, **HEADS[0]), Slots(4, 20))
    theirs = peer_of(ours, ClassSemantic(width=20))
    found, wanted = (
        sorted(repr(part) for part in network.modules() if isinstance(part, nn.GroupNorm | nn.LayerNorm))
        for network in (ours, theirs)
    )
    assert found == wanted


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_is_torch_s_with_its_kernel_in_another_order(kernel: int, stride: int) -> None:
    ours, theirs = Conv2d(6, 4, kernel, stride), nn.Conv2d(6, 4, kernel, stride, padding=kernel // 2)
    x = randn(2, 6, 8, 10)
    ours.load_state_dict({"weight": theirs.weight.permute(0, 2, 3, 1), "bias": theirs.bias})
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours(x).is_contiguous(memory_format=torch.channels_last)


def test_a_1x1_convolution_is_a_matrix() -> None:
    ours, x = Pointwise(6, 4), randn(2, 6, 3, 5)
    torch.testing.assert_close(ours(x), F.conv2d(x, ours.weight[:, :, None, None], ours.bias))


def test_everything_but_the_zero_layers_starts_as_torch_starts_it() -> None:
    torch.manual_seed(0)
    ours, theirs = (Conv2d(64, 64), nn.Conv2d(64, 64, 3))
    found, wanted = ours.weight.detach(), theirs.weight.detach()
    assert float(found.abs().max()) == pytest.approx(float(wanted.abs().max()), rel=1e-2)
    assert float(found.std()) == pytest.approx(float(wanted.std()), rel=2e-2)
    assert float(ours.bias.detach().abs().max()) <= 1 / (64 * 9) ** 0.5
    silent = [name for name, tensor in build_denoiser(small(), Slots(3, 8)).named_parameters() if not tensor.any()]
    published = ("conv_2.weight", "conv_2.bias", "proj_out.weight", "proj_out.bias", "conv_out.weight", "conv_out.bias")
    norms = [name for name in silent if ".norm" in f".{name}" and name.endswith("bias")]
    assert set(silent) - set(norms) == {name for name in silent if name.endswith(published)}
    assert sum(name.endswith("conv_2.weight") for name in silent) == 2 + 2 + 4


def test_without_a_context_slot_nothing_reads_a_context() -> None:
    plain, with_context = (build_denoiser(small(), Slots(3, width)).state_dict() for width in (None, 8))
    extra = {name.split(".blocks.0.")[1].split(".")[0] for name in with_context.keys() - plain.keys()}
    assert extra == {"norm_cross", "cross_attention"}
    denoiser = build_denoiser(small(), Slots(3, 8))
    with pytest.raises(ValueError, match="got no context"):
        denoiser(randn(1, 3, 4, 4), torch.zeros(1), Conditions(torch.zeros(1, 32)))


@pytest.mark.parametrize("size", [(6, 8), (8, 6)])
def test_a_size_that_cannot_be_halved_is_refused(size: tuple[int, int]) -> None:
    denoiser = build_denoiser(small(multipliers=(1, 2, 2)), Slots(3, None))
    with pytest.raises(ConfigError, match=r"cannot be halved 2 times; needed: both sides a multiple of 4"):
        denoiser(randn(1, 3, *size), torch.zeros(1), Conditions(torch.zeros(1, 32)))


def test_the_variance_is_learned_beside_the_mean() -> None:
    prediction = randomise(UNet(small(), Slots(3, None, learned_variance=True)))(
        randn(2, 3, 4, 8), torch.ones(2), Conditions(randn(2, 32))
    )
    assert prediction.mean.shape == prediction.variance_fraction.shape == (2, 3, 4, 8)
    assert relative(prediction.mean, prediction.variance_fraction) > 0.1


def test_where_a_group_is_one_channel_its_norm_undoes_the_shift() -> None:
    """Why XS has fewer groups than the published 32."""
    denoiser = randomise(UNet(small(), Slots(3, None)))
    block = denoiser.down[0].stages[0].residual
    block.norm_2 = nn.GroupNorm(8, 8)
    x = randn(2, 8, 4, 4)
    first, second = (block(x, randn(2, 32, seed=seed), torch.float32) for seed in (1, 2))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head_dim": 4}, "heads and head_dim are both given"),
        ({"attention_factors": (4,)}, "attention_factors has 4, which no level has"),
        ({"groups": 3}, "level 0 has 8 channels; needed: a multiple of the 3 groups"),
        ({"attention_factors": (1,), "heads": 3}, "level 0 has 8 channels; needed: a multiple of heads=3"),
        ({"heads": None, "head_dim": 12}, "needed: a multiple of head_dim=12"),
        ({"attention_factors": (), "heads": 3}, "level 1 has 16 channels"),
        ({"model_channels": 9}, "model_channels"),
    ],
)
def test_a_geometry_that_does_not_fit_is_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        validate(UNetConfig, SMALL_UNET | changes, source="test")
