from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from open_ldm.autoencoders import LatentStats
from open_ldm.autoencoders.base import Posterior
from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.controls import Flip, OriginalSize
from open_ldm.core.errors import NonFiniteError, OutOfMemoryError
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import ProcessConfig
from open_ldm.process.schedules import LinearSchedule
from open_ldm.sampling.generate import Generator, SamplingConfig, changed_settings
from open_ldm.sampling.guidance import GuidanceConfig
from open_ldm.sampling.solvers import SOLVERS
from tests.helpers import inputs_for, small_model

CONDITIONING = ConditioningConfig(semantic=ClassSemantic(), controls=(OriginalSize(), Flip()))
STATS = LatentStats(mean=(0.1, 0.0, -0.1), std=(0.5, 0.6, 0.7))
SIZE = (8, 4)
DDPM = ProcessConfig(schedule=LinearSchedule(), prediction="eps", learned_variance=True)
SEEDS = (3, 11, 4, 10**12)


class Unbounded(IdentityAutoencoder):
    """Latents that may be anything."""

    raw_range = None


def model(process: ProcessConfig | None = None) -> DiffusionModel:
    return small_model(conditioning=CONDITIONING, process=process).eval()


def generator(process: ProcessConfig | None = None, bounded: bool = True) -> Generator:
    return Generator(model(process), IdentityAutoencoder() if bounded else Unbounded(), STATS, SIZE)


def config(**changes: Any) -> SamplingConfig:
    return SamplingConfig(**{"steps": 4, "guidance": GuidanceConfig(semantic_scale=2.0), **changes})


def calls_of(model: DiffusionModel) -> list[int]:
    """Batch sizes of the denoiser's calls from now on."""
    sizes: list[int] = []
    model.denoiser.register_forward_hook(lambda module, given, output: sizes.append(len(given[0])))
    return sizes


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("process", [None, DDPM], ids=["rectified_flow", "linear"])
def test_a_picture_depends_on_its_own_seed_alone(solver: Any, process: ProcessConfig | None) -> None:
    drawing, inputs = generator(process), inputs_for(CONDITIONING, 4)
    together = drawing.images(inputs, SEEDS, config(solver=solver))
    assert together.shape == (4, 3, *SIZE)
    assert bool(torch.isfinite(together).all())
    for row, seed in enumerate(SEEDS):
        alone = drawing.images(inputs.rows(row, row + 1), [seed], config(solver=solver))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-4)
    in_parts = drawing.images(inputs, SEEDS, config(solver=solver, batch_size=3))
    torch.testing.assert_close(in_parts, together, rtol=1e-4, atol=1e-4)
    same_condition = inputs_for(CONDITIONING, 2, labels=torch.tensor([1, 1]))
    first, second = drawing.images(same_condition, SEEDS[:2], config(solver=solver))
    assert not torch.allclose(first, second, atol=1e-2)


def test_drawing_again_is_bit_equal_and_leaves_torch_alone() -> None:
    inputs = inputs_for(CONDITIONING, 2)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = generator().images(inputs, SEEDS[:2], config(solver="ddpm"))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(generator().images(inputs, SEEDS[:2], config(solver="ddpm")), first)
    assert not first.requires_grad


@pytest.mark.parametrize(
    ("semantic_scale", "control_scale", "branches"), [(1.0, 1.0, 1), (2.0, 1.0, 2), (1.0, 3.0, 2), (2.0, 3.0, 3)]
)
def test_the_branches_of_a_step_are_one_call(semantic_scale: float, control_scale: float, branches: int) -> None:
    drawing = generator()
    sizes = calls_of(drawing.model)
    guidance = GuidanceConfig(semantic_scale=semantic_scale, control_scale=control_scale)
    drawing.images(inputs_for(CONDITIONING, 4), SEEDS, config(solver="euler", guidance=guidance))
    assert sizes == [4 * branches] * 4
    sizes.clear()
    drawing.images(inputs_for(CONDITIONING, 4), SEEDS, config(solver="heun", guidance=guidance))
    assert sizes == [4 * branches] * 7


def test_branches_see_what_they_are_named_after() -> None:
    drawing, inputs = generator(bounded=False), inputs_for(CONDITIONING, 4)
    nothing = torch.zeros(4, dtype=torch.bool)

    def drawn(given: Any, semantic_scale: float, control_scale: float) -> Tensor:
        guidance = GuidanceConfig(semantic_scale=semantic_scale, control_scale=control_scale)
        return drawing.images(given, SEEDS, config(solver="euler", guidance=guidance))

    # w_s = 0 leaves the unconditional branch alone, w_c = 0 the semantic one.
    dropped = inputs.kept(nothing, nothing)
    torch.testing.assert_close(drawn(inputs, 0, 1), drawn(dropped, 1, 1), rtol=1e-4, atol=1e-4)
    semantic_only = inputs.kept(~nothing, nothing)
    torch.testing.assert_close(drawn(inputs, 1, 0), drawn(semantic_only, 1, 1), rtol=1e-4, atol=1e-4)
    # What was never given cannot be guided towards.
    torch.testing.assert_close(drawn(dropped, 3, 2), drawn(dropped, 1, 1), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(drawn(inputs, 0, 1), drawn(inputs, 1, 1), atol=1e-2)
    assert not torch.allclose(drawn(inputs, 1, 0), drawn(inputs, 1, 1), atol=1e-3)


def test_estimates_stay_within_the_pixels() -> None:
    strong = config(solver="euler", guidance=GuidanceConfig(semantic_scale=30.0))
    inputs = inputs_for(CONDITIONING, 4)
    outside = generator(bounded=False).images(inputs, SEEDS, strong)
    assert float(outside.abs().max()) > 1.1
    inside = generator().images(inputs, SEEDS, strong)
    assert float(inside.abs().max()) <= 1 + 1e-5
    assert float(inside.max()) == pytest.approx(1, abs=1e-5)
    assert float(inside.min()) == pytest.approx(-1, abs=1e-5)


def test_the_autoencoder_gets_denormalised_latents() -> None:
    class Recording(Unbounded):
        def encode(self, images: Tensor) -> Posterior:
            raise AssertionError("sampling does not encode")

        def decode(self, raw_latents: Tensor) -> Tensor:
            return raw_latents + 100

    inputs = inputs_for(CONDITIONING, 2)
    plain = LatentStats((0.0,) * 3, (1.0,) * 3)
    latents = Generator(model(), Unbounded(), plain, SIZE).images(inputs, SEEDS[:2], config())
    images = Generator(model(), Recording(), STATS, SIZE).images(inputs, SEEDS[:2], config())
    torch.testing.assert_close(images, STATS.denormalise(latents) + 100)


def test_progress_counts_the_steps_of_all_batches() -> None:
    told: list[int] = []
    generator().images(inputs_for(CONDITIONING, 4), SEEDS, config(batch_size=3), told.append)
    assert told == list(range(1, 9))


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize(("solver", "calls_before"), [("ddim", 2), ("heun", 5)])
def test_a_picture_that_is_not_finite_is_an_error_with_seed_and_step(
    solver: Any, calls_before: int, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing, calls = generator(bounded=bounded), 0
    real = drawing.model.denoise

    def denoise(x_t: Tensor, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        denoised = real(x_t, *given)
        if calls > calls_before:
            denoised.x_0[1 :: len(SEEDS)] = -torch.inf  # of the second picture, in every branch
        return denoised

    monkeypatch.setattr(drawing.model, "denoise", denoise)
    with pytest.raises(NonFiniteError, match="the picture of seed 11 holds NaN or infinity from step 3 of 4 on; fix:") as said:
        drawing.images(inputs_for(CONDITIONING, 4), SEEDS, config(solver=solver))
    assert said.value.exit_code == 70


def test_a_picture_that_its_autoencoder_spoils_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = generator()
    monkeypatch.setattr(drawing.autoencoder, "decode", lambda latents: torch.full_like(latents, torch.nan))
    with pytest.raises(NonFiniteError, match="seed 3 holds NaN or infinity once it was decoded, and 3 more of 4"):
        drawing.images(inputs_for(CONDITIONING, 4), SEEDS, config())


@pytest.mark.parametrize("scale", [float("inf"), float("nan"), 1e38])
def test_a_scale_that_is_no_finite_number_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"finite number|less than or equal to 10000"):
        GuidanceConfig(semantic_scale=scale)


def test_too_many_pictures_at_once_name_half_of_them() -> None:
    drawing = generator()
    drawing.decode = lambda latents: (_ for _ in ()).throw(MemoryError())  # type: ignore[method-assign,assignment]
    for count, fix in ((4, "sampling.batch_size=2, or ldm sample --batch 2"), (1, "a device with more memory")):
        with pytest.raises(OutOfMemoryError, match=f"while {count} pictures were sampled together") as raised:
            drawing.images(inputs_for(CONDITIONING, count), SEEDS[:count], config(steps=1))
        assert raised.value.fix == fix
    assert changed_settings(config(), batch_size=2) == config(batch_size=2)
