"""benchmarks/classes_read.py: shares by hand, and a reader that is right about real pictures and samples of a tiny run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

import open_ldm as ldm
from open_ldm.commands.fit_features import fit_features
from open_ldm.evaluation.features.classifier import ClassifierConfig
from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.evaluation.features.small_network import SmallNetworkConfig
from open_ldm.sources.loader import open_data
from tests.runs.tiny import TINY

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def classes_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import classes_read as found

    yield found
    for name in ("classes_read", "figures"):
        sys.modules.pop(name, None)


def test_a_share_has_wilsons_interval(classes_read: ModuleType) -> None:
    found = classes_read.share_of("these", [(True, 0.8)] * 8 + [(False, 0.3)] * 2)
    assert (found.share, found.probability) == (0.8, pytest.approx(0.7))
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))  # Newcombe 1998
    nothing = classes_read.share_of("none", [(False, 0.0)] * 5)
    assert nothing.low == pytest.approx(0, abs=1e-9) and nothing.high == pytest.approx(0.4345, abs=1e-4)


def test_samples_and_real_pictures_are_read(
    classes_read: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"training.samples": 4, "conditioning": {"semantic": {"kind": "class"}, "controls": []}}
    run = ldm.train(TINY, changes, out=tmp_path / "run", progress=False)
    network = SmallNetworkConfig(size_px=8, width=8, dim=4)
    fit_features(
        run.recipe.data, tmp_path / "reader", FitConfig(network=network, pictures=64, batch_size=8, held_out=0.4), silent=True
    )
    names = open_data(run.recipe.data).class_names
    for number, name in enumerate(names):
        (tmp_path / "real" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), (40 * number, 0, 200)).save(tmp_path / "real" / name / "one.png")
    capsys.readouterr()
    file = tmp_path / "classes.json"
    settings = ["--reader", str(tmp_path / "reader"), "--pictures", "7", "--sampling", "steps=2", "--json", str(file)]
    classes_read.main([str(run.path), *settings, "--real", str(tmp_path / "real")])
    first, second = json.loads(file.read_text())["shares"]
    assert (first["what"], first["pictures"]) == ("real pictures", min(7, len(names))) and second["pictures"] == 7
    assert second["what"] == str(run.path) and 0 <= second["low"] <= second["share"] <= second["high"] <= 1
    assert capsys.readouterr().out.count(" read as their class, probability ") == 2
    reader = ClassifierConfig(path=tmp_path / "reader").build(torch.device("cpu"))
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    read = reader.extract(pixels / 127.5 - 1).probabilities
    for right, name in ((True, 0), (False, 1)):
        wanted = [reader.class_names[(int(each) + name) % len(names)] for each in read.argmax(dim=1)]
        found = classes_read.readings(reader, pixels, wanted)
        assert [each for each, _ in found] == [right] * 5
        assert [probability for _, probability in found] == pytest.approx(
            [float(row[reader.class_names.index(one)]) for row, one in zip(read, wanted, strict=True)]
        )
