"""A model folder with Python code of its own: refused without a question, run only where the environment names it.

The code here does nothing but leave a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from open_ldm.core.errors import ConfigError
from open_ldm.core.model_folders import content_hash
from open_ldm.evaluation.features.transformers_model import load_encoder
from open_ldm.text.text_model import TextModel, TextModelConfig
from tests.text.tiny_models import t5_folder

CPU = torch.device("cpu")
CODE = """
from pathlib import Path
from transformers import T5Config, T5EncoderModel
Path({marker!r}).touch()

class OwnConfig(T5Config):
    model_type = "own"

class OwnModel(T5EncoderModel):
    config_class = OwnConfig
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A T5 encoder whose config names classes in a file beside it."""

    def asked(*_: Any) -> str:
        raise AssertionError("a question was asked")

    monkeypatch.setattr("builtins.input", asked)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    path = t5_folder(tmp_path / "model")
    (path / "own.py").write_text(CODE.format(marker=str(tmp_path / "ran")))
    content = json.loads((path / "config.json").read_text())
    content |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (path / "config.json").write_text(json.dumps(content))
    return path


def config(folder: Path) -> TextModelConfig:
    return TextModelConfig(path=str(folder), length=8, width=40)


def test_its_code_is_refused_without_a_question(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDM_ALLOW_CODE", str(tmp_path / "another"))
    with pytest.raises(ConfigError, match=r"brings Python code of its own, which was not run.*LDM_ALLOW_CODE=") as refused:
        TextModel(config(folder), CPU, torch.float32)
    assert len(str(refused.value)) < 300
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    with pytest.raises(ConfigError, match=r"dinov2\.path .*brings Python code of its own"):
        load_encoder(str(folder), "AutoModel", 8, "dinov2", CPU)
    assert not (tmp_path / "ran").exists()


def test_it_runs_where_the_environment_names_the_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDM_ALLOW_CODE", str(folder))
    loaded = TextModel(config(folder), CPU, torch.float32)
    assert (tmp_path / "ran").exists() and type(loaded.network).__name__ == "OwnModel"
    assert content_hash(folder, code=True) != content_hash(folder)  # code that is run is part of what a model is
