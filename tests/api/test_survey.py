"""`ldm.survey(X)` is `ldm data survey X`: what is given is found in the same way, and told in the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import open_ldm
from open_ldm.core.errors import ConfigError
from tests.cli.conftest import ldm
from tests.data.conftest import make_bytes, make_image, make_tar


def pictures(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make_image(30, 40, seed).save(root / name)
    return root


def array(root: Path) -> Path:
    np.savez(root / "a.npz", arr_0=np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8))
    return root / "a.npz"


def five_channels(root: Path) -> Path:
    for number in range(4):
        np.save(root / f"{number}.npy", np.random.default_rng(number).integers(0, 65536, (20, 20, 5), dtype=np.uint16))
    return root


def shards(root: Path) -> Path:
    for number in range(3):
        make_tar(root / f"t-{number}.tar", {f"{number}.png": make_bytes()})
    return root / "t-{0..1}.tar"


def splits(root: Path) -> Path:
    return pictures(root, "train/1.png", "train/2.png", "test/3.png")


def classes(root: Path) -> Path:
    return pictures(root, "cat/1.png", "dog/2.png", "dog/3.png")


def samples(root: Path) -> Path:
    files = [{"file": name} for name in ("000000.png", "000001.png")]
    (root / "samples.json").write_text(json.dumps({"pictures": files}))
    return pictures(root, "000000.png", "000001.png", "grid.png")


GIVEN: list[tuple[Callable[[Path], Path], list[str], int]] = [
    (array, [], 5),
    (five_channels, [], 4),
    (splits, [], 2),
    (splits, ["data.source.split=test"], 1),
    (classes, [], 3),
    (classes, ["data.holdout={share: 0.5}"], 3),
    (samples, [], 2),
    (shards, [], 2),
    (shards, ["data.source.captions=whole"], 2),
]


@pytest.mark.parametrize(("make", "changes", "count"), GIVEN)
def test_python_and_the_command_line_survey_the_same(
    make: Callable[[Path], Path], changes: list[str], count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = make(tmp_path)
    found = open_ldm.survey(given, *changes)
    told = capsys.readouterr().err
    code, out, err = ldm(capsys, "data", "survey", given, *changes)
    assert (code, found.pictures) == (0, count) and (f"{found}\n", told) == (out, err)


def test_what_has_no_effect_is_refused_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = array(tmp_path)
    with pytest.raises(ConfigError) as refused:
        open_ldm.survey(given, "training.seed=1")
    code, _, err = ldm(capsys, "data", "survey", given, "training.seed=1")
    assert code == 2 and refused.value.one_line() in err and "settings have no effect on the array" in err
    code, _, err = ldm(capsys, "data", "survey", given, "--duplicates")
    assert code == 2 and "--duplicates has no effect on the array" in err
