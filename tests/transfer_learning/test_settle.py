"""What follows from the model that another starts from, without a run: positions, noise schedule, settings that differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from open_ldm.autoencoders import IdentityConfig, LatentStats
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.controls import ViewShape
from open_ldm.core.errors import ConfigError
from open_ldm.data.transforms import TransformConfig
from open_ldm.denoisers.blocks.positions import GridPositions, ResampledPositions
from open_ldm.model.diffusion import build_model
from open_ldm.model.objective import ObjectiveConfig
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.process.resolution import ResolutionConfig
from open_ldm.transfer_learning.settings import InitFromConfig
from open_ldm.transfer_learning.settle import SizedSettings, settle, settle_as_before
from open_ldm.transfer_learning.start import StartingPoint, TrainedSettings, start, start_without_numbers
from tests.helpers import DENOISERS, SMALL_DIT

INIT = InitFromConfig(source="elsewhere")


def sized(size_px: int, resolution: ResolutionConfig | None = None, factor: int = 1, name: str = "dit") -> SizedSettings:
    process = ProcessConfig(resolution=resolution)
    return SizedSettings(process, DENOISERS[name], size_px, (size_px // factor, size_px // factor))


def trained(size_px: int, classes: tuple[str, ...] = ("ant", "bee")) -> TrainedSettings:
    facts = DataFacts(3, ViewShape(size_px, size_px, 64), classes, latent_size=(size_px, size_px))
    spec = ModelSpec(ProcessConfig(), ConditioningConfig(semantic=ClassSemantic()), SMALL_DIT, facts)
    stats = LatentStats((0.0,) * 3, (1.0,) * 3)
    return TrainedSettings(spec, IdentityConfig(), ObjectiveConfig(), TransformConfig(size_px=size_px), stats)


def test_an_equal_size_changes_nothing() -> None:
    assert settle(sized(16), sized(16), INIT) == sized(16)


def test_another_size_resamples_positions_and_shifts_the_noise() -> None:
    settled = settle(sized(32), sized(16), INIT)
    assert settled.process.resolution == ResolutionConfig(from_px=16, to_px=32)
    assert settled.denoiser == SMALL_DIT.model_copy(update={"positions": ResampledPositions(rows=8, columns=8)})
    again = settle(sized(64), settled, INIT)  # a third size starts from the first one's schedule
    assert again.process.resolution == ResolutionConfig(from_px=16, to_px=64)
    assert settle(sized(16), settled, INIT).process.resolution is None


def test_a_network_without_a_table_of_positions_keeps_its_settings() -> None:
    assert settle(sized(32, name="unet"), sized(16, name="unet"), INIT).denoiser == DENOISERS["unet"]


def test_without_rescaling_the_sources_shift_is_written_for_the_new_size() -> None:
    init = INIT.model_copy(update={"rescale_noise": False})
    source = sized(32, ResolutionConfig(from_px=16, to_px=32))
    assert settle(sized(64), source, init).process.resolution == ResolutionConfig(from_px=32, to_px=64)
    stated = ResolutionConfig(from_px=8, to_px=64)
    assert settle(sized(64, stated), source, init).process.resolution == stated
    with pytest.raises(ConfigError, match=r"32 px, has no equal for 33 px; fix: state process.resolution"):
        settle(sized(33), sized(32, ResolutionConfig(from_px=16, to_px=32)), init)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (sized(32, ResolutionConfig(from_px=8, to_px=32)), "process.resolution=.* differs from what follows"),
        (sized(32, factor=4), "shrinks pictures 4 times, the source's 1 times"),
        (
            replace(sized(32), denoiser=SMALL_DIT.model_copy(update={"positions": GridPositions(base=2)})),
            "denoiser.positions=.* differs from what follows",
        ),
    ],
)
def test_other_settings_than_those_that_follow_are_refused(model: SizedSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settle(model, sized(16), INIT)


def test_a_run_that_goes_on_keeps_what_it_settled_on() -> None:
    before = settle(sized(32), sized(16), INIT)
    assert settle_as_before(sized(32), before) == before
    stated = ResolutionConfig(from_px=8, to_px=32)
    assert settle_as_before(sized(32, stated), before).process.resolution == stated
    other = replace(sized(32), denoiser=SMALL_DIT.model_copy(update={"positions": GridPositions(base=2)}))
    assert settle_as_before(other, before).denoiser == other.denoiser


def test_a_model_starts_with_the_weights_of_another_and_says_what_differs() -> None:
    there, here = trained(8), trained(16, ("bee", "cat"))
    source = StartingPoint(Path("runs/a"), "samples-1", 1, there, build_model(there.spec, 1).state_dict(), "", ())
    assert here.sized.latent_size == (16, 16)
    fresh = build_model(here.spec, 2).state_dict()
    carried, started = start(here, source, fresh, INIT)
    assert started.settings == {"data.transform.size_px": (8, 16)}
    table = "conditioning.semantic.table.weight"
    assert torch.equal(carried.tensors[table][0], source.tensors[table][1])  # the bee
    assert torch.equal(carried.tensors[table][1], fresh[table][1])  # the cat
    assert start_without_numbers(here, source, INIT).to_json() == started.to_json()
