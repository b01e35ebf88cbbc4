"""PixArt-alpha: the same numbers as diffusers and as a plain reference, through the converters; its own start and masks."""

from __future__ import annotations

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.inputs import Conditions
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.core.config import validate
from open_ldm.denoisers import PixArtConfig, Slots, build_denoiser
from open_ldm.denoisers.pixart import PixArt
from open_ldm.interop import pixart
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.process.schedules import LinearSchedule
from open_ldm.text import HuggingFaceConfig, TextTokens
from tests.denoisers.pixart_reference import Picture, Reference
from tests.helpers import SMALL, VIEW, randn, randomise, relative
from tests.interop.layouts import original_pixart

DEPTH, WIDTH, HEADS, CAPTION, LENGTH, SIDE = 3, 48, 3, 20, 6, 8
BOUND = 1e-5
FAMILY = pixart.PixArtFamily()
TEXT = validate(HuggingFaceConfig, {"models": [[{"path": "none", "length": LENGTH, "width": CAPTION}]]}, source="test")
SEMANTIC = TextSemantic(encoder=TEXT, padding="mask", null_kind="table", null_keeps_mask=True)
MASK = torch.arange(LENGTH) < torch.tensor([[LENGTH], [LENGTH // 2], [1]])  # a whole, a half-padded and a one-word caption
SIZES, RATIO = torch.tensor([[768.0, 1024.0], [512.0, 512.0], [1333.0, 31.0]]), torch.tensor([[0.75], [1.0], [4.0]])


class Ours:
    """A model read from a random file in the original layout, for SIDE tokens a side at a scale of the position table."""

    def __init__(self, scale: float, multi_scale: bool) -> None:
        self.file = original_pixart(DEPTH, WIDTH, CAPTION, LENGTH, multi_scale)
        geometry = {"size": "XS", "depth": DEPTH, "width": WIDTH, "heads": HEADS}
        config = PixArtConfig(**geometry, positions=pixart.positions_for(SIDE, scale))
        conditioning = ConditioningConfig(semantic=SEMANTIC, controls=pixart.CONTROLS if multi_scale else ())
        facts = DataFacts(4, VIEW, latent_size=(2 * SIDE, 2 * SIDE))
        process = ProcessConfig(schedule=LinearSchedule(), prediction="eps", learned_variance=True)
        self.parts = ModelSpec(process, conditioning, config, facts)
        self.model = DiffusionModel(self.parts)
        self.model.load_state_dict(FAMILY.key_map(self.parts, "original").read(self.file))

    def __call__(self, x: Tensor, t: Tensor, context: Tensor, keep: bool = True) -> Tensor:
        kept, all_kept = torch.full((3,), keep), torch.ones(3, dtype=torch.bool)
        controls = {"original_size": SIZES, "aspect_ratio": RATIO} if self.parts.conditioning.controls else {}
        inputs = ConditionInputs(kept, all_kept, text=TextTokens(context, MASK), controls=controls)
        prediction = self.model.predict(x, t, inputs)
        assert prediction.variance_fraction is not None
        return torch.cat([prediction.mean, prediction.variance_fraction], dim=1)


def diffusers_peer(ours: Ours) -> PixArtTransformer2DModel:
    written, tensors = FAMILY.for_export(ours.parts, ours.model.state_dict())
    theirs = FAMILY.peer(written).eval()
    theirs.load_state_dict(FAMILY.key_map(written, "diffusers").write(tensors))
    return theirs


def output_and_gradient(output: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [output.detach(), *torch.autograd.grad((output * randn(*output.shape, seed=9)).sum(), leaves)]


def agree(found: list[Tensor], wanted: list[Tensor]) -> bool:
    assert float(wanted[0].abs().max()) > 0.1
    return all(relative(one, other.float()) <= BOUND for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("t", [0.001, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("multi_scale", [False, True])
def test_the_same_numbers_as_diffusers(multi_scale: bool, scale: float, t: float) -> None:
    ours = Ours(scale, multi_scale)
    x, context = randn(3, 4, 8, 12).requires_grad_(), randn(3, LENGTH, CAPTION, seed=1).requires_grad_()
    times = torch.full((3,), t)
    found = output_and_gradient(ours(x, times, context), x, context)

    time = ours.model.schedule.network_time(times)
    assert float(time[0]) == pytest.approx(1000 * t - 1, abs=1e-3)
    added = {"resolution": SIZES, "aspect_ratio": RATIO} if multi_scale else {"resolution": None, "aspect_ratio": None}
    theirs = diffusers_peer(ours)
    assert theirs.config.interpolation_scale == scale and theirs.config.use_additional_conditions == multi_scale
    output = theirs(x, context, timestep=time, added_cond_kwargs=added, encoder_attention_mask=MASK.float()).sample
    assert agree(found, output_and_gradient(output, x, context))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("multi_scale", [False, True])
def test_the_same_numbers_as_a_plain_reference_of_the_original_layout(multi_scale: bool, keep: bool) -> None:
    ours = Ours(0.5, multi_scale)
    x, context = randn(3, 4, 8, 12).requires_grad_(), randn(3, LENGTH, CAPTION, seed=1).requires_grad_()
    leaves = (x, context) if keep else (x,)  # a dropped caption is not read
    found = output_and_gradient(ours(x, torch.tensor([0.001, 0.5, 1.0]), context, keep), *leaves)

    reference = Reference(ours.file, HEADS, base=SIDE, lewei_scale=0.5)
    rows = []
    for i, t in enumerate((0.0, 499.0, 999.0)):
        sizes = (tuple(SIZES[i].tolist()), float(RATIO[i])) if multi_scale else (None, None)
        caption = context[i] if keep else ours.file["y_embedder.y_embedding"]
        rows.append(reference(Picture(x[i], t, caption, MASK[i], *sizes)))
    assert agree(found, output_and_gradient(torch.stack(rows), *leaves))


@pytest.mark.parametrize(
    ("size", "dtype"),
    [((8, 8), torch.float32), ((8, 8), torch.bfloat16), ((48, 48), torch.float32)],  # the last takes torch's own attention
)
def test_a_picture_without_any_token_is_finite_and_reads_nothing(size: tuple[int, int], dtype: torch.dtype) -> None:
    denoiser = randomise(build_denoiser(PixArtConfig(**SMALL), Slots(4, CAPTION)))
    denoiser.compute_dtype = dtype
    x, context = randn(3, 4, *size), randn(3, LENGTH, CAPTION, seed=1)
    mask = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    given = [context, torch.where(mask.unsqueeze(-1), context, 100 * context)]
    outputs = [
        denoiser(x, torch.full((3,), 10.0), Conditions(randn(3, SMALL["width"]), tokens.requires_grad_(), mask)).mean
        for tokens in given
    ]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-6, atol=1e-6)
    torch.autograd.backward(outputs[0].square().sum())
    gradients = [context.grad, *(parameter.grad for parameter in denoiser.parameters())]
    assert all(gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in gradients)
    assert context.grad is not None
    assert context.grad[mask].any(dim=-1).all() and not context.grad[~mask].any()


def test_attending_to_nothing_gives_the_bias() -> None:
    attention = randomise(PixArt(PixArtConfig(**SMALL), Slots(4, CAPTION))).blocks[0].cross_attention
    x, context = randn(2, 3, SMALL["width"]), randn(2, 4, SMALL["width"])
    out = attention(x, context, torch.tensor([[False] * 4, [True] * 4]))
    torch.testing.assert_close(out[0], attention.proj.bias.expand(3, -1))
    torch.testing.assert_close(out[1], attention(x, context, None)[1])


def test_it_starts_as_published() -> None:
    config = PixArtConfig(**{**SMALL, "width": 96, "heads": 4})
    torch.manual_seed(0)
    denoiser = PixArt(config, Slots(4, 4096))
    for layer in (*denoiser.time_embedding.mlp[::2], denoiser.modulation.linear, *denoiser.context_projection.children()):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
        assert not layer.bias.any()
    for block in denoiser.blocks:
        assert float(block.table.vectors.detach().std()) == pytest.approx(96**-0.5, rel=0.2)
        assert not block.cross_attention.proj.weight.any() and not block.cross_attention.proj.bias.any()
        assert float(block.mlp.fc1.weight.detach().abs().max()) == pytest.approx((6 / (5 * 96)) ** 0.5, rel=0.02)  # Xavier
    assert not denoiser.final_layer.linear.weight.any() and not denoiser.final_layer.linear.bias.any()
    assert 0.1 < float(denoiser.patch_embedding.proj.bias.detach().abs().max()) <= 16**-0.5  # a convolution's own start


def test_without_a_context_slot_there_is_no_cross_attention() -> None:
    denoiser = PixArt(PixArtConfig(**SMALL), Slots(4, None))
    assert not [name for name, _ in denoiser.named_parameters() if "cross" in name or "context" in name]
    with pytest.raises(ValueError, match="got no context"):
        PixArt(PixArtConfig(**SMALL), Slots(4, 8))(randn(1, 4, 8, 8), torch.zeros(1), Conditions(randn(1, SMALL["width"])))
