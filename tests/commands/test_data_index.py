"""`ldm data index` speaks of its own settings, and of what a path may have meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import ldm

datasets = pytest.importorskip("datasets")


def saved(folder: Path, *splits: str) -> Path:
    rows = datasets.Dataset.from_dict({"text": ["a", "b"]})
    datasets.DatasetDict(dict.fromkeys(splits, rows)).save_to_disk(folder)
    return folder


def test_a_path_of_several_splits_names_the_settings_that_the_command_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "set", "train", "test")
    code, _, said = ldm(capsys, "data", "index", path)
    assert code and "fix: split=train\n" in said
    code, _, said = ldm(capsys, "data", "index", path, "split=tset")
    assert code and "split=tset" in said and "test" in said and "data.source" not in said
    _, _, said = ldm(capsys, "data", "index", path, "split=train")
    assert "holds the splits" not in said and "no column" in said  # the setting is taken; these rows have no pictures

    _, _, said = ldm(capsys, "data", "index", "demo", f"data.source={{kind: huggingface, path: {path}}}")
    assert "fix: data.source.split=train\n" in said  # which a recipe takes


@pytest.mark.parametrize("more", [[], ["split=train"]])
def test_a_name_that_may_be_of_the_hub_is_told_the_setting_for_it(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = ldm(capsys, "data", "index", "owner/name", *more)
    assert code and "fix: for a hub name add kind=huggingface; for a path " in said


@pytest.mark.parametrize("given", ["nothing.tar", "/no/such", "owner/name-*.tar"])
def test_what_is_a_path_is_told_nothing_of_the_hub(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = ldm(capsys, "data", "index", given)
    assert code and "matches no file" in said and "huggingface" not in said and "data.source" not in said
