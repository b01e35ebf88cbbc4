from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.files import hash_file
from open_ldm.data.holdout import Part, select_part
from open_ldm.evaluation.features import ClassifierConfig, build_extractor
from open_ldm.evaluation.features.classifier_fit import FitConfig, fit
from open_ldm.evaluation.features.small_network import SmallNetworkConfig
from open_ldm.evaluation.pictures import pictures_of
from open_ldm.evaluation.statistics import collect
from tests.evaluation.sets import CPU, Patterns, images

TINY = FitConfig(
    network=SmallNetworkConfig(size_px=16, width=8, dim=12), pictures=1280, batch_size=16, learning_rate=1e-2, held_out=0.2
)
SOURCE = Patterns(400)


@pytest.fixture(scope="module", name="folder")
def fitted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    fit(SOURCE, folder, TINY)
    return folder


def test_it_learns_the_classes_of_the_data(folder: Path) -> None:
    extractor = build_extractor(ClassifierConfig(path=folder), CPU)
    assert extractor.accuracy > 0.8
    found = [extractor.extract(batch.images) for batch in pictures_of(SOURCE, 16, count=120, batch_size=40)]
    probabilities = torch.cat([each.probabilities for each in found])
    numbers = [number for batch in pictures_of(SOURCE, 16, count=120, batch_size=40) for number in batch.numbers]
    right = sum(int(row.argmax()) == SOURCE.label_of(number) for row, number in zip(probabilities, numbers, strict=True))
    assert right / 120 > 0.8
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(120))


def test_features_are_the_penultimate_layer_at_one_size(folder: Path) -> None:
    extractor = build_extractor(ClassifierConfig(path=folder), CPU)
    found = extractor.extract(images(3, 16))
    assert found.vectors.shape == (3, extractor.dim) == (3, 12)
    head = extractor.network.head
    torch.testing.assert_close((found.vectors @ head.weight.T + head.bias).softmax(dim=1), found.probabilities)
    assert extractor.extract(images(2, 40)).vectors.shape == (2, 12)
    assert len(found.layers) == 3
    (statistics,) = collect(pictures_of(SOURCE, 16, count=20, batch_size=8), [extractor])
    assert statistics.extractor.weights == hash_file(folder / "classifier.safetensors")


def test_the_same_data_and_seed_give_the_same_file(folder: Path, tmp_path: Path) -> None:
    short = TINY.model_copy(update={"pictures": 64})
    one, other = (fit(SOURCE, tmp_path / name, short) for name in ("a", "b"))
    assert one.sha256 == other.sha256 == hash_file(tmp_path / "a" / "classifier.safetensors")
    assert one.sha256 != fit(SOURCE, tmp_path / "c", short.model_copy(update={"seed": 1})).sha256
    described = json.loads((tmp_path / "a" / "classifier.json").read_text())
    assert described["class_names"] == list(SOURCE.class_names)
    assert described["accuracy"] == one.accuracy
    assert 50 < described["tested"] == one.tested < 110


def test_held_out_pictures_are_never_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[Part] = []
    monkeypatch.setattr(
        "open_ldm.evaluation.features.classifier_fit.select_part",
        lambda *arguments: parts.append(select_part(*arguments)) or parts[-1],
    )
    fit(SOURCE, tmp_path, TINY.model_copy(update={"pictures": 32}))
    train, test = ({part.sample_id(index) for index in range(len(part))} for part in parts)
    assert train.isdisjoint(test)
    assert train | test == {SOURCE.sample_id(index) for index in range(400)}


def test_what_cannot_be_used_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"20 pictures: \d+ to learn from.*needed: at least 16 and 10"):
        fit(Patterns(20), tmp_path, TINY)
    with pytest.raises(ConfigError, match="is no fitted classifier"):
        build_extractor(ClassifierConfig(path=tmp_path), CPU)
    for name in ("classifier.json", "classifier.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    content = bytearray((tmp_path / "classifier.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "classifier.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"is not the file that classifier\.json describes"):
        build_extractor(ClassifierConfig(path=tmp_path), CPU)


def test_data_without_classes_is_refused(tmp_path: Path) -> None:
    class Unlabelled(Patterns):
        class_names = ()

    with pytest.raises(DataError, match=r"the data has 0 classes.*fix: add labels"):
        fit(Unlabelled(100), tmp_path, TINY)


def test_an_interrupted_fit_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = TINY.model_copy(update={"pictures": 128})
    whole = fit(SOURCE, tmp_path / "whole", short)
    monkeypatch.setattr("open_ldm.evaluation.features.fit_progress._SAVE_EVERY_SECONDS", 0.0)
    shown: list[int] = []

    def interrupt(pictures: int, loss: float) -> None:
        shown.append(pictures)
        if pictures == 80:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(SOURCE, tmp_path / "again", short, on_batch=interrupt)
    other = short.model_copy(update={"learning_rate": 1e-3})
    assert fit(SOURCE, tmp_path / "other", other, on_batch=lambda *_: None).sha256 != whole.sha256
    shown.clear()
    found = fit(SOURCE, tmp_path / "again", short, on_batch=lambda pictures, _: shown.append(pictures))
    assert shown == [80, 96, 112, 128] and found.sha256 == whole.sha256
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == ["classifier.json", "classifier.safetensors"]
