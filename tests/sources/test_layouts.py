"""The layouts of benchmarks/layouts.py, written by the libraries people use: each is read as it is, or refused by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.shards import ShardsConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = ("layout", "layouts", "layouts_webdataset", "layouts_huggingface")


@pytest.fixture(autouse=True)
def _there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("webdataset", "pillow_heif", "datasets"):
        pytest.importorskip(name)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_every_layout_of_webdataset(capsys: pytest.CaptureFixture[str]) -> None:
    import layouts
    import layouts_webdataset

    made = layouts_webdataset.layouts()
    assert len(made) >= 20 and layouts.run(made, ShardsConfig, "webdataset") == 0, capsys.readouterr().out


def test_every_layout_of_datasets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    import layouts
    import layouts_huggingface

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    made = layouts_huggingface.layouts()
    assert len(made) >= 15 and layouts.run(made, HuggingFaceConfig, "huggingface") == 0, capsys.readouterr().out


def test_a_layout_that_is_read_wrongly_is_found(tmp_path: Path) -> None:
    import layouts
    import layouts_webdataset

    first = layouts_webdataset.layouts()[0]
    wrong = layouts.Layout("wrong", first.write, [*first.expected[1:], first.expected[0]])
    assert "sample 0 differs in file" in layouts.outcome(wrong, ShardsConfig, tmp_path)
    assert "should be refused" in layouts.outcome(layouts.Layout("", first.write, refused="x"), ShardsConfig, tmp_path)
