from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.core.model_folders import content_hash, find_model_folder


def test_a_folder_inside_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "some_package" / "model" / "small"
    inside.mkdir(parents=True)
    (tmp_path / "some_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model_folder("package:some_package/model/small") == str(inside)
    for wrong in ("package:some_package/nothing", "package:some_package/../..", "package:no_such_package/model", "package:/x"):
        with pytest.raises(ConfigError):
            find_model_folder(wrong)


def test_folders_are_themselves_and_other_names_are_left_to_the_hub(tmp_path: Path) -> None:
    assert find_model_folder(str(tmp_path)) == str(tmp_path)
    assert find_model_folder("openai/clip-vit-large-patch14") == "openai/clip-vit-large-patch14"


def test_the_hash_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "README.md").write_text(name)
    one, two = (tmp_path / name for name in ("one", "two"))
    assert content_hash(one) == content_hash(two)
    (two / "model.safetensors").write_bytes(b"x")
    assert content_hash(one) != content_hash(two)
