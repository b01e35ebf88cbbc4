"""What is given without a recipe is read as what it is, and where a setting is needed it is said where that can be written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import open_ldm as ldm
from open_ldm.commands.evaluate.stored_pictures import open_pictures
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.data.label_column import label_by
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.given_files import config_of
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.shards import ShardsConfig
from tests.cli.conftest import ldm as command
from tests.data.conftest import make_bytes, make_tar

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.usefixtures("no_hub")


def pictures(root: Path) -> Path:
    root.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (8, 8), (number * 60, 0, 0)).save(root / f"{number}.png")
    return root


def table(count: int = 2) -> Any:
    features = datasets.Features({"image": datasets.Image()})
    content = [{"bytes": make_bytes(), "path": None} for _ in range(count)]
    return datasets.Dataset.from_dict({"image": content}, features=features)


def test_a_table_without_pictures_beside_pictures_does_not_hide_them(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    datasets.Dataset.from_dict({"embedding": [0.5, 0.25]}).to_parquet(str(folder / "embeddings.parquet"))
    assert isinstance(config_of(folder), FolderConfig) and len(open_pictures(folder)) == 3


def test_a_table_of_pictures_beside_others_names_these(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    table().to_parquet(str(folder / "t.parquet"))
    assert isinstance(config_of(folder), HuggingFaceConfig)
    assert "3 pictures in single files are not read: 0.png, 1.png, 2.png" in str(ldm.survey(folder))
    assert "single files" not in str(ldm.survey(folder / "t.parquet"))


def test_a_folder_that_cannot_be_read_beside_a_table_hides_it_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table().to_parquet(str(tmp_path / "t.parquet"))
    (tmp_path / "lost+found").mkdir()
    really = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert isinstance(config_of(tmp_path), HuggingFaceConfig) and len(open_pictures(tmp_path)) == 2
    with pytest.raises(DataError, match=r"lost\+found cannot be read: Permission denied"):
        FolderConfig(path=tmp_path).open()


def test_a_tar_file_of_pictures_beside_others_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pictures(tmp_path / "arch" / "cat").parent
    pictures(folder / "dog")
    make_tar(folder / "raw.tar", {"1.png": make_bytes(), "1.txt": b"words"})
    said = (
        f"{folder} holds pictures in 1 tar file, raw.tar, and 6 in single files, such as cat/0.png; needed: one of the two;"
        " fix: move the others elsewhere, or name a recipe with data.source={kind: folder, path: ...}, or kind: shards"
    )
    for call in (config_of, open_pictures, ldm.survey):
        with pytest.raises(DataError) as refused:
            call(folder)
        assert said in refused.value.one_line()
    for verb in (("train", folder, "--dry-run"), ("data", "survey", folder)):
        code, _, err = command(capsys, *verb)
        assert code == 65 and said in err
    for kind, count in (("shards", 1), ("folder", 6)):
        code, out, _ = command(capsys, "data", "survey", "photos-dit", f"data.source={{kind: {kind}, path: {folder}}}")
        assert code == 0 and out.startswith(f"{count} picture")
    assert isinstance(config_of(folder / "raw.tar"), ShardsConfig)


def test_a_tar_file_without_pictures_beside_pictures_does_not_hide_them(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p")
    make_tar(folder / "notes.tar", {"readme.md": b"words"})
    assert isinstance(config_of(folder, channels=1), FolderConfig)
    assert "3 pictures" in str(found := ldm.survey(folder)) and "1 other file ignored: .tar 1" in str(found)


def test_tables_and_shards_are_told_from_folders(tmp_path: Path) -> None:
    table().to_parquet(str(tmp_path / "tables" / "t.parquet"))
    (tmp_path / "shards").mkdir()
    make_tar(tmp_path / "shards" / "a.tar", {"1.png": make_bytes()})
    assert isinstance(config_of(tmp_path / "tables"), HuggingFaceConfig)
    assert isinstance(config_of(tmp_path / "tables" / "t.parquet"), HuggingFaceConfig)
    assert isinstance(config_of(tmp_path / "shards"), ShardsConfig)
    with pytest.raises((ConfigError, DataError), match="needed: a folder of pictures"):
        open_pictures(next((pictures(tmp_path / "p")).iterdir()))
    with pytest.raises(ConfigError, match=f"^{tmp_path}/none does not exist; needed: a folder of pictures"):
        open_pictures(tmp_path / "none")


def test_a_survey_from_python_reads_one_file_of_a_table(tmp_path: Path) -> None:
    table(5).to_parquet(str(tmp_path / "t.parquet"))
    assert str(ldm.survey(tmp_path / "t.parquet")).startswith("5 pictures")


def test_several_splits_name_a_place_where_one_can_be_chosen(tmp_path: Path) -> None:
    datasets.DatasetDict(train=table(), test=table()).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(ConfigError, match="holds the splits") as refused:
        open_pictures(tmp_path / "saved")
    assert refused.value.fix == "in its place a recipe file that reads it, with data.source.split=train"


def test_a_column_that_is_missing_is_told_with_each_that_is_there_once(tmp_path: Path) -> None:
    noted = table().add_column("dose", [1, 2]).add_column("day", ["a", "b"])
    noted.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="is missing") as refused:
        label_by(HuggingFaceConfig(path=str(tmp_path / "saved")).open(), "stain", 10)
    assert (refused.value.needed.count("dose"), refused.value.needed.count("day")) == (1, 1)
