"""What readers tell of pictures, and how classifiers are fitted to read other labels and coarse pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.data.label_column import LabelColumn
from open_ldm.data.sample import Sample
from open_ldm.data.shape_words import COLOURS
from open_ldm.evaluation.features.classifier import DESCRIPTION, ClassifierConfig, ClassifierExtractor
from open_ldm.evaluation.features.classifier_fit import FitConfig, _some_shrunk, fit, is_fitted
from open_ldm.evaluation.features.resize import coarsened
from open_ldm.evaluation.readers import ClassifierReader, ShapesReader, mirrored
from open_ldm.sources.shapes import DrawnShape, Scene, ShapesConfig, ShapesSource, draw
from open_ldm.sources.shrunk import ShrunkConfig
from tests.evaluation.sets import CPU, images

FIT: dict[str, Any] = {"network": {"size_px": 8, "width": 8, "dim": 6}, "pictures": 1600, "batch_size": 16, "held_out": 0.2}


def picture(*shapes: DrawnShape) -> torch.Tensor:
    return torch.from_numpy(draw(Scene(64, 64, 240, shapes))).permute(2, 0, 1).contiguous()


ONE = picture(DrawnShape("red", "circle", "large", "left", 0.3, 0.5, 0.45))
TWO = picture(
    DrawnShape("red", "circle", "small", "left", 0.25, 0.5, 0.3),
    DrawnShape("blue", "square", "large", "right", 0.73, 0.5, 0.45),
)


def test_one_shape_is_read_with_its_half_of_the_picture() -> None:
    (found,) = ShapesReader().read(ONE[None])
    expected = {"colour": ("red",), "kind": ("circle",), "place": ("left",), "size": ("large",), "count": 1}
    assert found == expected and tuple(expected) == ShapesReader.attributes
    (other,) = ShapesReader().read(ONE.flip(-1)[None])
    assert other == {**expected, "place": ("right",)} == mirrored(found)


def test_what_several_shapes_show_does_not_depend_on_their_sides_except_for_the_place() -> None:
    plain, flipped = ShapesReader().read(torch.stack([TWO, TWO.flip(-1)]))
    assert plain["place"] == ("right", "left") and plain["colour"] == ("blue", "red")  # in the order of their colours
    assert flipped == mirrored(plain) and flipped["place"] == ("left", "right")
    assert mirrored({"class": "left"}) == {"class": "left"}


def test_an_empty_picture_has_a_reading_too() -> None:
    (found,) = ShapesReader().read(torch.full((1, 3, 32, 32), 240, dtype=torch.uint8))
    assert found == {"colour": (), "kind": (), "place": (), "size": (), "count": 0}


def test_the_class_that_labels_hide_is_a_column() -> None:
    told = {"warm": ["red circle", "yellow circle"], "cold": ["blue circle", "green square"]}
    config = {
        "of": {"kind": "shapes", "length": 300, "two_shapes": 0},
        "short_side_px": [8, 32],
        "entangle": {"by": "class", "strength": 0.9},
        "told": told,
    }
    source = ShrunkConfig.model_validate(config).open()
    labelled = LabelColumn(source, "class")
    assert source.class_names == ("warm", "cold") and labelled.class_names == tuple(sorted([*told["warm"], *told["cold"]]))
    for index in range(len(source)):
        hidden = labelled.class_names[labelled.label_of(index) or 0]
        assert hidden == source[index].attributes["class"]
        assert hidden in told[source.class_names[source.label_of(index) or 0]]


class Attributed(ShapesSource):
    """Shapes whose colour is an attribute of its own, which their class does not tell: all have class 0."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return replace(sample, label=0, attributes={**sample.attributes, "colour": sample.attributes["shapes"][0].colour})


def test_a_column_takes_the_place_of_the_class() -> None:
    source = Attributed(ShapesConfig(length=60, two_shapes=0))
    labelled = LabelColumn(source, "colour")
    assert labelled.class_names == tuple(sorted(COLOURS)) and labelled.summary.classes == 6 and len(labelled) == 60
    for index in range(60):
        colour = source.scene(index).shapes[0].colour
        assert labelled.class_names[labelled.label_of(index) or 0] == colour
        assert labelled[index].label == labelled.label_of(index)
    assert labelled.fingerprint != source.fingerprint and labelled.hashes.pictures == source.hashes.pictures
    with pytest.raises(DataError, match=r"column 'color' of shapes/000000 is missing; needed: one of .*did you mean 'colour'"):
        LabelColumn(source, "color")
    with pytest.raises(DataError, match="is no word and no number"):
        LabelColumn(source, "shapes")


def test_a_classifier_reads_the_column_it_was_fitted_on(tmp_path: Path) -> None:
    config = FitConfig.model_validate({**FIT, "column": "colour", "shrunk_to_px": 2})
    fitted = fit(Attributed(ShapesConfig(length=400, two_shapes=0)), tmp_path, config)
    reader = ClassifierReader(ClassifierExtractor(ClassifierConfig(path=tmp_path), CPU))
    assert reader.attributes == ("colour",) and reader.id.name == "classifier"
    chance = 1 / len(COLOURS)  # all pictures have one class, so that nothing but the column tells them apart
    assert fitted.accuracy > chance + 3 * (chance * (1 - chance) / fitted.tested) ** 0.5
    assert {str(one["colour"]) for one in reader.read(torch.stack([ONE, ONE.flip(-1)]))} <= set(COLOURS)
    assert is_fitted(tmp_path, config) and not is_fitted(tmp_path, FitConfig.model_validate({**FIT, "column": "colour"}))


def test_settings_of_older_classifiers_are_told_without_what_is_newer(tmp_path: Path) -> None:
    config = FitConfig.model_validate({**FIT, "pictures": 32})
    assert not {"column", "shrunk_to_px"} & set(config.model_dump())
    fit(ShapesSource(ShapesConfig(length=100, two_shapes=0)), tmp_path, config)
    described: Mapping[str, Any] = json.loads((tmp_path / DESCRIPTION).read_text())
    assert set(described["fit"]) == {"pictures", "batch_size", "learning_rate", "held_out", "flip", "seed"}
    assert is_fitted(tmp_path, config)
    assert ClassifierExtractor(ClassifierConfig(path=tmp_path), CPU).column == "class"
    with pytest.raises(ValueError, match="must be below"):
        FitConfig.model_validate({**FIT, "shrunk_to_px": 8})


def test_some_pictures_of_a_batch_are_shrunk_by_seed_and_step_alone() -> None:
    given = images(64, 16)
    one, again, later = (_some_shrunk(given, 4, 0, step) for step in (3, 3, 4))
    changed = (one != given).flatten(1).any(dim=1)
    assert torch.equal(one, again) and not torch.equal(one, later) and 16 < int(changed.sum()) < 48
    assert torch.equal(one[~changed], given[~changed])


def test_coarse_pictures_hold_what_a_smaller_one_could_show() -> None:
    given = images(2, 16)
    assert torch.equal(coarsened(given, (16, 32)), given)
    assert coarsened(given, (1, 1)).std(dim=(2, 3)).max() < 1e-6  # one colour
    assert coarsened(given, (16, 4)).shape == given.shape and not torch.equal(coarsened(given, (16, 4)), given)


def test_a_missing_classifier_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no fitted classifier"):
        ClassifierExtractor(ClassifierConfig(path=tmp_path / "gone"), CPU)
