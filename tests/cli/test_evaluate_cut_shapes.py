"""Cut shapes of a run, whose model a stand-in replaces: where its shapes lie is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from open_ldm.commands.evaluate import controlled
from open_ldm.commands.evaluate.config import CutShapesMetric, EvaluationConfig
from open_ldm.commands.evaluate.cut_shapes import measure_cut_shapes
from open_ldm.commands.evaluate.evaluate import evaluate_run
from open_ldm.commands.evaluate.pictures import SampledPictures, open_evaluated
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.pictures import to_images
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.sources.loader import open_data
from open_ldm.sources.shapes import DrawnShape, Scene, draw
from open_ldm.studies.found import METRICS
from tests.cli.conftest import trained

BOOTSTRAP = BootstrapConfig()
METRIC = CutShapesMetric(pictures=8, real_pictures=300)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 32 px on shapes in pictures up to twice as long as the view."""
    shapes = (
        "{kind: shapes, length: 400, two_shapes: 0, short_side_px: [32, 48], longest_aspect: 2, extents: {large: [0.42, 0.44]}}"
    )
    transform = "data.transform={size_px: 32, flip: 0}"
    return trained(tmp_path_factory.mktemp("long"), f"data.source={shapes}", transform, "training.samples=4")


@pytest.fixture
def pictures(long_run: Path) -> SampledPictures:
    """Of eight samples, seeds 0 and 1 are empty, 2 to 4 show a shape that is cut, 5 to 7 one that is whole."""
    opened = open_evaluated(long_run, EvaluationConfig(metrics=("kid",), n=8), None, "train", "cpu")
    assert isinstance(opened, SampledPictures)

    def images(inputs: Any, seeds: Any, settings: Any) -> Tensor:
        return to_images(torch.stack([painted(seed) for seed in seeds]))

    opened.run.generator.images = images  # type: ignore[method-assign]
    return opened


def painted(seed: int) -> Tensor:
    shape = DrawnShape("red", "circle", "large", "left", 0.1 if seed < 5 else 0.5, 0.5, 0.4)
    return torch.from_numpy(draw(Scene(32, 32, 240, () if seed < 2 else (shape,)))).permute(2, 0, 1)


def shares(pictures: SampledPictures, metric: CutShapesMetric = METRIC) -> dict[str, float]:
    found = measure_cut_shapes(pictures, metric, open_data(pictures.run.recipe.data), BOOTSTRAP)
    assert {one.estimate.name for one in found} <= set(METRICS)
    return {one.estimate.name: one.estimate.value for one in found}


def test_samples_are_counted_beside_real_views_that_are_cut_and_whole_ones_that_are_not(pictures: SampledPictures) -> None:
    found = shares(pictures)
    assert (found["cut_shapes"], found["whole_shapes"]) == (3 / 8, 3 / 8)
    assert found["cut_shapes_floor"] == 0 and 0.1 < found["cut_shapes_views"] < 0.3
    assert shares(pictures, METRIC.model_copy(update={"pictures": 4}))["cut_shapes"] == 2 / 4


def test_protocols_say_what_was_sampled_and_what_was_read(pictures: SampledPictures) -> None:
    cut, _, views, floor = measure_cut_shapes(pictures, METRIC, open_data(pictures.run.recipe.data), BOOTSTRAP)
    assert cut.protocol.entries["sampling.seeds"] == "0..7" and cut.protocol.entries["extractor.name"] == "shapes reader"
    assert views.protocol.entries["reference_n"] == "300" and 60 < int(floor.protocol.entries["reference_n"]) < 200
    assert views.protocol.entries["reference"] == floor.protocol.entries["reference"] != cut.protocol.entries["reference"]


def test_without_pictures_that_are_whole_there_is_no_floor(pictures: SampledPictures) -> None:
    found = measure_cut_shapes(pictures, METRIC.model_copy(update={"real_pictures": 12}), pictures.data, BOOTSTRAP)
    assert [one.estimate.name for one in found] == ["cut_shapes", "whole_shapes", "cut_shapes_views"]
    assert "of 12 real views show a whole picture" in found[0].estimate.warnings[0]


def test_what_cannot_be_read_is_refused(
    long_run: Path, pictures: SampledPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(painted(5).permute(1, 2, 0).numpy()).save(tmp_path / "5.png")
    with pytest.raises(DataError, match="cut_shapes compares samples with the views of their training"):
        evaluate_run(tmp_path, long_run, ["cut_shapes"], cache=None, device="cpu")
    monkeypatch.setattr(controlled, "ShapesConfig", type("Other", (), {}))  # as if the data were photographs
    with pytest.raises(ConfigError, match="cut_shapes reads drawn shapes alone"):
        measure_cut_shapes(replace(pictures, seeds=range(2)), METRIC, pictures.data, BOOTSTRAP)
