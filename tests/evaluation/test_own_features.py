"""Features for a run that names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.core.errors import StoppedError
from open_ldm.data.holdout import HoldoutConfig, select_part
from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.evaluation.features.small_network import SmallNetworkConfig
from open_ldm.evaluation.own_features import own_features
from open_ldm.sources.shapes import ShapesConfig

QUICK = FitConfig(network=SmallNetworkConfig(size_px=8, width=8, dim=8), pictures=128, batch_size=16)


def test_a_classifier_is_fitted_once_and_taken_from_then_on(tmp_path: Path) -> None:
    source, shown = ShapesConfig(length=120).open(), list[int]()

    def interrupted(count: int, loss: float) -> None:
        if count == 64:
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        own_features(source, tmp_path, on_batch=interrupted, config=QUICK)
    first = own_features(source, tmp_path, on_batch=lambda count, loss: shown.append(count), config=QUICK)
    assert first.config.kind == "classifier" and "own pictures" in first.sentence and shown[-1] == 128
    shown.clear()
    assert own_features(source, tmp_path, on_batch=lambda count, loss: shown.append(count), config=QUICK) == first
    assert not shown, "what is fitted is not fitted again"


def test_pictures_of_which_some_are_held_out_by_the_same_seed_can_still_be_learned_from(tmp_path: Path) -> None:
    source = select_part(ShapesConfig(length=200).open(), HoldoutConfig(share=0.3), "train")
    assert own_features(source, tmp_path, config=QUICK).config.kind == "classifier"


def test_without_classes_an_untrained_network_is_taken_and_says_why(tmp_path: Path) -> None:
    found = own_features(ShapesConfig(length=12).open(), tmp_path, config=QUICK)
    assert found.config.kind == "random" and "12 pictures" in found.sentence and not list(tmp_path.iterdir())
