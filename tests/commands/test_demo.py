"""The demo from end to end, on a model too small to learn anything: everything is made, nothing is claimed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from open_ldm.commands.control_leakage import influence
from open_ldm.commands.demo import caption_groups, run_demo
from open_ldm.core.errors import ConfigError
from open_ldm.data.shape_words import HELD_OUT, shapes_in
from open_ldm.data.sources import open_source
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import load_recipe

SMALL = [
    "training.samples=64",
    "training.batch_size=16",
    "training.preview_every_samples=0",
    "training.checkpoint_every_samples=64",
    "denoiser.depth=2",
    "denoiser.width=32",
    "denoiser.heads=2",
    "sampling.steps=2",
    "latent_stats.pictures=32",
    "training.optimizer.warmup_samples=0",
    "training.dtype=float32",
    "data.workers=0",
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    result = run_demo(load_recipe("demo", SMALL), out, silent=True)
    assert result.code == 0 and set(result.agreement) == set(caption_groups())
    return out


def test_the_demo_writes_its_findings(demo: Path) -> None:
    for name in ("report.html", "unseen.png", "size_sweep.png", "flip_sweep.png"):
        assert (demo / name).stat().st_size > 1000
    found = json.loads((demo / "agreement.json").read_text())
    assert all(0 <= shares["all"] <= 1 for shares in found["agreement"].values())
    page = (demo / "report.html").read_text()
    assert "Do the samples show what the captions say?" in page and "exactly 0" in page


def test_held_out_captions_are_never_trained_on() -> None:
    trained = set(open_source(load_recipe("demo").data.source).captions())
    groups = caption_groups()
    unseen = groups["one shape, unseen combination"]
    assert not trained & set(unseen)
    assert {(shape.colour, shape.kind) for caption in unseen for shape in shapes_in(caption)} == set(HELD_OUT)
    assert set(groups["one shape"]) <= trained and set(groups["two shapes"]) <= trained


def test_size_does_not_reach_the_content_of_the_trained_model(demo: Path, tmp_path: Path) -> None:
    captions = ["a large red circle on the left", "a small blue square on the right"]
    improved = influence(load_run(demo), "size", ("24x24", "160x160"), captions, (1.0, 0.2))
    assert improved[0].exact and not improved[1].exact
    run_demo(load_recipe("demo-baseline", SMALL), tmp_path, silent=True)
    baseline = influence(load_run(tmp_path), "size", ("24x24", "160x160"), captions, (1.0,))
    assert not baseline[0].exact


def test_only_shapes_can_be_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs data\.source\.kind=shapes"):
        run_demo(load_recipe("emoji-mmdit"), tmp_path)
