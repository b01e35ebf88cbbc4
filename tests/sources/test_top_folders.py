"""Pictures beside the folders of a data set take no class away, and bring no split in, without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.core.errors import DataError
from open_ldm.sources.folder import FolderConfig
from tests.cli.conftest import ldm
from tests.data.conftest import make_bytes


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(make_bytes())
    return root


CLASSES = ("cat/1.png", "cat/2.png", "dog/1.png")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((*CLASSES, "cover.png"), "the folders cat, dog are no classes while 1 picture lies outside them: cover.png"),
        (
            (*CLASSES, *(f"{number}.png" for number in range(5))),
            "the folders cat, dog are no classes while 5 pictures lie outside them: 0.png, 1.png, 2.png, ... (2 more)",
        ),
        (
            ("cover.png", *(f"data/{name}" for name in CLASSES)),
            "the folders data/cat, data/dog are no classes while 1 picture lies outside them: cover.png",
        ),
    ],
)
def test_pictures_beside_class_folders_are_named(names: tuple[str, ...], said: str, tmp_path: Path) -> None:
    source = FolderConfig(path=fill(tmp_path, *names)).open()
    assert (len(source), source.class_names) == (len(names), ())
    assert source.summary.layout == f"flat; {said}"


@pytest.mark.parametrize(
    "names", [("1.png", "2.png"), ("1.png", "more/2.png"), ("1.png", "00000/000000001.jpg", "00001/000010001.jpg")]
)
def test_where_no_folders_would_be_classes_nothing_is_said_of_any(names: tuple[str, ...], tmp_path: Path) -> None:
    assert "outside them" not in FolderConfig(path=fill(tmp_path, *names)).open().summary.layout


def test_the_guess_and_the_survey_name_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ldm(capsys, "data", "survey", fill(tmp_path / "a", *CLASSES, "cover.png"))
    assert code == 0 and all("are no classes while 1 picture lies outside them: cover.png" in text for text in (out, err))


@pytest.mark.parametrize("inside", ["", "data/", "scans, 2020/"])
def test_a_picture_beside_splits_does_not_mix_them(inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = fill(tmp_path / "a", *(f"{inside}{name}" for name in ("train/1.png", "train/2.png", "test/3.png")), "cover.png")
    with pytest.raises(DataError, match="which are no classes") as refused:
        FolderConfig(path=root).open()
    assert "holds the splits test, train and outside them cover.png" in refused.value.problem
    split, path = refused.value.fix.removeprefix("data.source.split=").split(", or data.source.path=")
    for config in (FolderConfig(path=root, split=split), FolderConfig(path=Path(path))):
        assert len(config.open()) == 2
    code, out, err = ldm(capsys, "data", "survey", root)
    assert code == 0 and "2 pictures" in out
    assert f"\nsplit: {inside}train of test, train and outside them cover.png; data.source.split=NAME takes another\n" in err
