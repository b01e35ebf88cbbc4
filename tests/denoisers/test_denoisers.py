from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from open_ldm.conditioning.inputs import Conditions
from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import Draws
from open_ldm.denoisers import Denoiser, DiTConfig, MDTv2Config, MMDiTConfig, Prediction, Slots, build_denoiser
from open_ldm.denoisers.base import TransformerConfig
from open_ldm.denoisers.blocks.attention import Attention
from open_ldm.denoisers.blocks.embeddings import PatchEmbedding, unpatchify
from tests.helpers import DENOISERS, SMALL, randn, randomise, relative

WIDTH, CONTEXT = 32, 20
KINDS = pytest.mark.parametrize("name", DENOISERS)
PATCHED = pytest.mark.parametrize("name", [name for name, config in DENOISERS.items() if isinstance(config, TransformerConfig)])


def build(name: str, channels: int = 4, context: int | None = CONTEXT, variance: bool = False, **geometry: Any) -> Denoiser:
    config = DENOISERS[name].model_copy(update=geometry)
    torch.manual_seed(0)
    return randomise(build_denoiser(config, Slots(channels, context, variance))).eval()


def conditions(count: int, context: int | None = CONTEXT, length: int = 5, mask: Tensor | None = None) -> Conditions:
    tokens = None if context is None else randn(count, length, context, seed=3)
    return Conditions(randn(count, WIDTH, seed=2), tokens, mask)


def times(count: int) -> Tensor:
    return torch.linspace(0, 999, count)


@KINDS
@pytest.mark.parametrize("size", [(8, 8), (4, 12), (20, 6)])
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_any_size_and_number_of_channels(name: str, size: tuple[int, int], channels: int) -> None:
    x = randn(2, channels, *size)
    prediction = build(name, channels)(x, times(2), conditions(2))
    assert prediction.mean.shape == x.shape
    assert prediction.mean.dtype == torch.float32
    assert prediction.variance_fraction is None


@PATCHED
@pytest.mark.parametrize("patch", [2, 4, 8])
def test_patches_and_learned_variance(name: str, patch: int) -> None:
    x = randn(2, 4, 8, 16)
    prediction = build(name, variance=True, patch=patch)(x, times(2), conditions(2))
    assert prediction.variance_fraction is not None
    assert prediction.mean.shape == prediction.variance_fraction.shape == x.shape
    assert not torch.allclose(prediction.mean, prediction.variance_fraction)


@PATCHED
@pytest.mark.parametrize("size", [(6, 8), (8, 6)])
def test_a_size_that_does_not_divide_is_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"latents of .* cannot be cut in patches of 4; needed: .*multiple of 4"):
        build(name, patch=4)(randn(1, 4, *size), times(1), conditions(1))


@KINDS
def test_one_network_takes_several_sizes_in_turn(name: str) -> None:
    denoiser = build(name)
    first = denoiser(randn(1, 4, 8, 8), times(1), conditions(1)).mean
    denoiser(randn(1, 4, 4, 16), times(1), conditions(1))
    assert torch.equal(denoiser(randn(1, 4, 8, 8), times(1), conditions(1)).mean, first)


@KINDS
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_gradient_reaches_every_parameter_and_both_slots(name: str, context: int | None) -> None:
    denoiser, given = build(name, context=context, variance=True), conditions(2, context)
    leaves = [given.modulation, *([given.context] if given.context is not None else [])]
    for leaf in leaves:
        leaf.requires_grad_()
    x = randn(2, 4, 8, 8)
    for each in denoiser.training_passes(Draws(0, (0, 1), 2, torch.device("cpu"))):
        prediction = each.forward(x, times(2), given)
        assert prediction.variance_fraction is not None
        torch.autograd.backward((prediction.mean + prediction.variance_fraction.square()).square().sum())
    for label, tensor in [*denoiser.named_parameters(), *((f"slot {i}", leaf) for i, leaf in enumerate(leaves))]:
        assert tensor.grad is not None, label
        assert bool(torch.isfinite(tensor.grad).all()), label
        # As published, nothing reads the last block's context: its queries are computed and dropped.
        assert bool(tensor.grad.any()) != (label == "blocks.1.context.norm_q.weight"), label


@KINDS
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_slots_and_time_change_the_prediction(name: str, context: int | None) -> None:
    denoiser, x, given = build(name, context=context), randn(2, 4, 8, 8), conditions(2, context)
    before = denoiser(x, times(2), given).mean
    others = [
        denoiser(x, times(2) + 7, given).mean,
        denoiser(x, times(2), Conditions(given.modulation + 1, given.context)).mean,
        denoiser(x + 0.1, times(2), given).mean,
    ]
    if given.context is not None:
        others.append(denoiser(x, times(2), Conditions(given.modulation, given.context + 1)).mean)
    for other in others:
        assert relative(other, before) > 1e-3


@KINDS
def test_an_untrained_network_predicts_exactly_zero(name: str) -> None:
    denoiser = build_denoiser(DENOISERS[name], Slots(4, CONTEXT))
    assert not denoiser(randn(2, 4, 8, 8), times(2), conditions(2)).mean.any()


@KINDS
def test_order_in_the_batch_does_not_matter(name: str) -> None:
    denoiser, x, given, t = build(name), randn(4, 4, 8, 8), conditions(4), times(4)
    assert given.context is not None
    whole = denoiser(x, t, given).mean
    order = [2, 0, 3, 1]
    shuffled = denoiser(x[order], t[order], Conditions(given.modulation[order], given.context[order])).mean
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-5, atol=1e-5)
    alone = denoiser(x[1:2], t[1:2], Conditions(given.modulation[1:2], given.context[1:2])).mean
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-5, atol=1e-5)


@KINDS
@pytest.mark.parametrize("size", [(8, 8), (48, 48)])  # the larger one takes torch's own attention kernel
def test_masked_context_changes_nothing(name: str, size: tuple[int, int]) -> None:
    denoiser, x = build(name), randn(2, 4, *size)
    mask = torch.tensor([[True, True, False, True, False], [True, False, False, False, False]])
    given = conditions(2, mask=mask)
    assert given.context is not None
    before = denoiser(x, times(2), given).mean
    changed = torch.where(mask.unsqueeze(-1), given.context, given.context * -50 + 3)
    after = denoiser(x, times(2), Conditions(given.modulation, changed, mask)).mean
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)
    seen = torch.where(mask.unsqueeze(-1), given.context + 1, given.context)
    assert relative(denoiser(x, times(2), Conditions(given.modulation, seen, mask)).mean, before) > 1e-3
    without = Conditions(given.modulation[:1], given.context[:1, [0, 1, 3]])
    torch.testing.assert_close(denoiser(x[:1], times(2)[:1], without).mean, before[:1], rtol=1e-4, atol=1e-5)


@KINDS
def test_a_full_mask_equals_no_mask(name: str) -> None:
    denoiser, x = build(name), randn(2, 4, 8, 8)
    full = denoiser(x, times(2), conditions(2, mask=torch.ones(2, 5, dtype=torch.bool))).mean
    torch.testing.assert_close(full, denoiser(x, times(2), conditions(2)).mean, rtol=1e-6, atol=1e-6)


@KINDS
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_bf16_products_stay_close_to_float32(name: str, context: int | None) -> None:
    denoiser, x = build(name, context=context), randn(4, 4, 8, 8)
    full = denoiser(x, times(4), conditions(4, context)).mean
    denoiser.compute_dtype = torch.bfloat16
    half = denoiser(x, times(4), conditions(4, context)).mean
    assert half.dtype == torch.float32
    assert 0 < relative(half, full) <= 4e-2  # twenty roundings of bf16, 2^-9; which way each goes is the machine's
    torch.autograd.backward(half.sum())
    assert {parameter.grad.dtype for parameter in denoiser.parameters() if parameter.grad is not None} == {torch.float32}


def test_patches_are_a_convolution_and_unpatchify_its_layout() -> None:
    embedding = PatchEmbedding(3, 2, 8)
    x = randn(2, 3, 4, 6)
    weight = embedding.proj.weight.view(8, 3, 2, 2)
    wanted = torch.nn.functional.conv2d(x, weight, embedding.proj.bias, stride=2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embedding(x), wanted)
    tokens = torch.arange(6 * 12.0).view(1, 6, 12)
    image = unpatchify(tokens, (2, 3), 2)
    assert image.shape == (1, 3, 4, 6)
    assert image[0, :, 0, 0].tolist() == [0, 1, 2]
    assert image[0, :, 0, 1].tolist() == [3, 4, 5]
    assert image[0, :, 1, 0].tolist() == [6, 7, 8]
    assert image[0, 0, 0, 2].item() == 12
    assert image[0, 0, 2, 0].item() == 36


@pytest.mark.parametrize("geometry", [{"width": 30, "heads": 2}, {"width": 32, "heads": 3}])
@pytest.mark.parametrize("kind", [DiTConfig, MDTv2Config, MMDiTConfig])
def test_a_geometry_that_does_not_fit_is_one_line(kind: Any, geometry: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="divisible by 4 and by the heads"):
        build_denoiser(kind(**{**SMALL, **geometry}), Slots(3, None))


def test_one_training_pass_is_the_network_itself() -> None:
    denoiser = build("dit")
    (only,) = denoiser.training_passes(Draws(0, (0,), 1, torch.device("cpu")))
    prediction = only.forward(randn(1, 4, 8, 8), times(1), conditions(1))
    assert isinstance(prediction, Prediction)
    assert torch.equal(prediction.mean, denoiser(randn(1, 4, 8, 8), times(1), conditions(1)).mean)


@KINDS
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_blocks_are_declared_in_the_order_of_computation(name: str, context: int | None) -> None:
    denoiser, ran = build(name, context=context), []
    blocks = list(denoiser.block_modules())
    for block in blocks:
        block.register_forward_pre_hook(lambda module, arguments: ran.append(module))
    passes = denoiser.training_passes(Draws(0, (0, 1), 2, torch.device("cpu")))
    for each in passes:
        each.forward(randn(2, 4, 8, 8), times(2), conditions(2, context))
    full = ran[-len(blocks) :]  # of MDTv2 the masked pass, in which its side block runs too
    assert full == blocks and set(ran) == set(blocks)
    assert len(set(blocks)) == len(blocks)
    owned = [parameter for block in blocks for parameter in block.parameters()]
    assert len({id(parameter) for parameter in owned}) == len(owned), "no parameter belongs to two blocks"
    held = {id(part) for block in blocks for part in block.modules()}
    assert {id(part) for part in denoiser.modules() if isinstance(part, Attention)} <= held


@KINDS
def test_attentions_to_the_context_are_declared_in_the_order_of_computation(name: str) -> None:
    denoiser, ran = build(name), []
    declared: list[nn.Module] = [each.attention for each in denoiser.context_attentions()]
    for module in declared:
        module.register_forward_pre_hook(lambda module, arguments: ran.append(module))
    denoiser(randn(2, 4, 8, 8), times(2), conditions(2))
    assert ran == declared and len(ran) >= 2
    assert not build(name, context=None).context_attentions()
