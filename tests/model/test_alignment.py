"""A middle layer that is aligned to the autoencoder: which tokens stand where, what the loss is, and what it reaches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from open_ldm.autoencoders import LatentStats, Posterior
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import Draws
from open_ldm.denoisers.blocks.embeddings import patchify
from open_ldm.denoisers.blocks.routing import RoutingConfig
from open_ldm.denoisers.dit import DiTConfig
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.model.alignment import ALIGNMENT, AlignmentConfig, image_tokens
from open_ldm.model.diffusion import DiffusionModel, build_model
from open_ldm.model.noising import Noising, ObjectiveInputs
from open_ldm.model.objective import Objective, ObjectiveConfig
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.process.time_density import UniformTimes
from tests.helpers import CLASSES, DENOISERS, SMALL_WORDS, VIEW, WORDS, inputs_for, randn, randomise

BATCH, CHANNELS, SIDE = 3, 4, 8
KINDS = pytest.mark.parametrize("kind", ["dit", "mmdit", "pixart", "mdtv2", "unet"])
BY_CLASS = ConditioningConfig(semantic=ClassSemantic())
BY_WORDS = ConditioningConfig(semantic=TextSemantic(encoder=SMALL_WORDS))  # context tokens stand beside those of the image


def spec(kind: str, depth: float | None = 0.5, conditioning: ConditioningConfig = BY_WORDS) -> ModelSpec:
    facts = DataFacts(CHANNELS, VIEW, CLASSES, WORDS, latent_size=(SIDE, SIDE))
    aligned = None if depth is None else AlignmentConfig(depth=depth)
    return ModelSpec(ProcessConfig(), conditioning, DENOISERS[kind], facts, aligned)


def model_of(kind: str, depth: float | None = 0.5, conditioning: ConditioningConfig = BY_WORDS) -> DiffusionModel:
    made: DiffusionModel = randomise(build_model(spec(kind, depth, conditioning), seed=1))
    return made


def batch(conditioning: ConditioningConfig = BY_WORDS) -> ObjectiveInputs:
    draws = Draws(0, tuple(range(BATCH)), BATCH, torch.device("cpu"), {})
    mean = randn(BATCH, CHANNELS, SIDE, SIDE, seed=2)
    x_0 = mean + 0.1 * randn(*mean.shape, seed=3)
    return ObjectiveInputs(x_0, torch.tensor([0.1, 0.5, 0.9]), inputs_for(conditioning, BATCH), draws, mean)


def losses(model: DiffusionModel, weight: float | None, given: ObjectiveInputs) -> Tensor:
    config = ObjectiveConfig(alignment=None if weight is None else AlignmentConfig(weight=weight))
    found: Tensor = Objective(model, config)(given)
    return found


@KINDS
def test_it_adds_its_weighted_error_in_the_pass_over_all_tokens(kind: str) -> None:
    model, given = model_of(kind), batch()
    plain = losses(model, None, given)
    one, two = losses(model, 1.0, given) - plain, losses(model, 2.0, given) - plain
    assert (one > 0.01).all() and torch.allclose(two, 2 * one, rtol=1e-4, atol=1e-5)
    assert model.alignment is not None
    seen: list[object] = []
    layer = model.denoiser.layers()[model.alignment.number]
    hook = layer.block.register_forward_hook(lambda block, inside, output: seen.append(output))
    losses(model, None, given)
    hook.remove()
    wanted = patchify(given.mean if given.mean is not None else given.x_0, layer.patch)
    guess = model.alignment.projection(image_tokens(seen[0], wanted.shape[1]))
    assert torch.allclose(one, (guess - wanted).square().mean(dim=(1, 2)), rtol=1e-3, atol=1e-5)
    assert len(seen) == (2 if kind == "mdtv2" else 1)  # the masked pass of MDTv2 is left alone


@KINDS
def test_tokens_are_guessed_from_where_they_stand(kind: str) -> None:
    """A block that returns the patches themselves, with context tokens as it has them, and a guess that is what it gets."""
    model, given = model_of(kind), batch()
    assert model.alignment is not None and given.mean is not None
    alignment, (rows, columns) = model.alignment, (SIDE // model.alignment.patch,) * 2
    tokens = patchify(given.mean, alignment.patch)
    context = randn(BATCH, 5, tokens.shape[2], seed=4)
    outputs = {
        "mmdit": (tokens, context),
        "pixart": tokens,
        "unet": tokens.transpose(1, 2).reshape(BATCH, -1, rows, columns),
    }
    alignment.projection = nn.Sequential(nn.Identity())
    output = outputs.get(kind, torch.cat([tokens, context], dim=1))
    assert alignment(output, given.mean, model.denoiser).abs().max() == 0
    assert (alignment(output, given.mean.flip(3), model.denoiser) > 0.1).all()


def test_patches_are_cut_row_by_row() -> None:
    x = randn(2, 3, 4, 6)
    for patch in (1, 2):
        tokens, columns = patchify(x, patch), 6 // patch
        for row, column in ((0, 0), (1, 2), (3 // patch, columns - 1)):
            top, left = row * patch, column * patch
            wanted = x[:, :, top : top + patch, left : left + patch].flatten(1)
            assert tokens[:, row * columns + column].equal(wanted)


@KINDS
def test_it_teaches_the_blocks_up_to_its_layer_alone(kind: str) -> None:
    model, given = model_of(kind), batch()
    assert model.alignment is not None
    with model.alignment.watching(model.denoiser) as seen:
        next(iter(model.denoiser.training_passes(given.draws))).forward(
            given.x_0, model.schedule.network_time(given.t), model.conditioning(given.inputs, given.t)
        )
    model.alignment(seen[0], given.mean, model.denoiser).sum().backward()
    layers, number = model.denoiser.layers(), model.alignment.number
    taught = [any(each.grad is not None and each.grad.any() for each in layer.block.parameters()) for layer in layers]
    assert number < len(layers) - 1 and taught == [place <= number for place in range(len(layers))]
    assert all(each.grad is not None and each.grad.any() for each in model.alignment.parameters())


@KINDS
@pytest.mark.parametrize("depth", [0.01, 0.5, 1.0])
def test_every_layer_can_be_aligned(kind: str, depth: float) -> None:
    model, given = model_of(kind, depth), batch()
    found = losses(model, 0.5, given)
    assert torch.isfinite(found).all() and model.alignment is not None
    assert model.alignment.number == {0.01: 0, 1.0: len(model.denoiser.layers()) - 1}.get(depth, model.alignment.number)


@pytest.mark.parametrize(("blocks", "first"), [(24, 1), (12, 2), (12, 5), (28, 4), (28, 8), (6, 0)])
def test_the_depth_that_the_error_names_beside_a_route_is_one(blocks: int, first: int) -> None:
    denoiser = DiTConfig(size="XS", patch=2, depth=blocks, width=8, heads=2, routing=RoutingConfig(first=first))

    def model(depth: float) -> DiffusionModel:
        return build_model(replace(spec("dit", depth), denoiser=denoiser), seed=1)

    with pytest.raises(ConfigError, match="which some tokens go around") as raised:
        model(0.5)
    depth = float(raised.value.fix.removeprefix("objective.alignment.depth="))
    alignment = model(depth).alignment
    assert alignment is not None and alignment.number == (first - 1 if first else blocks - 1)


@KINDS
def test_without_it_a_model_has_the_same_tensors_and_starts_as_it_did(kind: str) -> None:
    plain = build_model(spec(kind, None), seed=1).state_dict()
    aligned = build_model(spec(kind), seed=1).state_dict()
    assert {name for name in aligned if name not in plain} == {name for name in aligned if name.startswith(ALIGNMENT)}
    assert len(plain) < len(aligned) and all(aligned[name].equal(plain[name]) for name in plain)
    assert "alignment" not in ObjectiveConfig().model_dump(mode="json")


def test_the_mean_of_a_posterior_is_normalised_as_its_draws_are() -> None:
    stats, mean = LatentStats((0.5,) * CHANNELS, (2.0,) * CHANNELS), randn(2, CHANNELS, SIDE, SIDE)
    encoded = EncodedBatch((0, 1), Posterior(mean, torch.full_like(mean, 0.3)), torch.tensor([0, 1]), None, {})
    noising = Noising(0, 2, stats, BY_CLASS, UniformTimes(), None, torch.device("cpu"), keeps_mean=True)
    drawn = noising.draw(encoded)
    assert drawn.mean is not None and drawn.mean.equal((mean - 0.5) / 2)
    assert 0 < float((drawn.x_0 - drawn.mean).std()) < 0.3
    assert replace(noising, keeps_mean=False).draw(encoded).mean is None
