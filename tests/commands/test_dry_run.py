"""A dry run does without data that are not here, and with nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from open_ldm.commands.dry_run import DryRun, dry_run
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.runs.recipe import recipe_from
from tests.runs.tiny import TINY

CLASS = ["conditioning.semantic={kind: class}"]
NONE = ["conditioning.semantic={kind: none}", "denoiser.kind=dit", "denoiser.patch=4"]


def dry(kind: str, path: Path, overrides: list[str]) -> DryRun:
    source = f"data.source={{kind: {kind}, path: {json.dumps(str(path))}}}"
    return dry_run(recipe_from(TINY, [source, *overrides], source="tiny"))


@pytest.mark.parametrize(("kind", "path"), [("folder", "absent"), ("shards", "absent/train-*.tar")])
def test_absent_data_are_assumed(kind: str, path: str, tmp_path: Path) -> None:
    by_class, by_text, by_none = (dry(kind, tmp_path / path, each).data for each in (CLASS, [], NONE))
    assert by_class.startswith("not here") and by_class.endswith("counted for 1000 classes")
    assert "words" in by_text and "class" not in by_text
    assert by_none.startswith("not here") and "counted" not in by_none


def pictures(folder: Path, rows: list[dict[str, object]]) -> Path:
    folder.mkdir()
    for row in rows:
        Image.new("RGB", (20, 20)).save(folder / str(row["file_name"]))
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_unusable_data_are_refused(tmp_path: Path) -> None:
    captioned = pictures(tmp_path / "a", [{"file_name": "1.png", "text": "x", "label": 0}, {"file_name": "2.png"}])
    assert dry("folder", captioned, []).data.startswith("2 pictures, no classes, 1 caption")
    with pytest.raises(ConfigError, match=r"the data has no classes .*labels on 1 of 2 ignored"):
        dry("folder", captioned, CLASS)
    with pytest.raises(ConfigError, match="no captions"):
        dry("folder", pictures(tmp_path / "b", [{"file_name": "1.png"}]), [])
    with pytest.raises(DataError, match="mixes labels"):
        both = [{"file_name": "1.png", "label": 1}, {"file_name": "2.png", "label": "x"}]
        dry("folder", pictures(tmp_path / "c", both), NONE)
    with pytest.raises(ConfigError, match="is a file"):
        dry("folder", captioned / "1.png", NONE)
    (tmp_path / "x.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(DataError, match="cannot be read as tar"):
        dry("shards", tmp_path / "x.tar", CLASS)
