"""Trained tiny runs, shared by the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.cli.main import main
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from tests.runs.tiny import DENOISERS, tiny_recipe


def ldm(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `ldm ARGUMENTS`."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def trained(folder: Path, *overrides: str) -> Path:
    recipe = load_recipe(str(tiny_recipe(folder)), ["training.samples=32", "training.preview_every_samples=16", *overrides])
    result = train(recipe, folder / "run", silent=True, command=["ldm", "train", "tiny"])
    assert result.code == 0
    return folder / "run"


@pytest.fixture(scope="session")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A caption model with all four controls."""
    return trained(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def class_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class model without controls."""
    overrides = ("conditioning.semantic={kind: class}", "conditioning.controls=[]", *DENOISERS["dit"])
    return trained(tmp_path_factory.mktemp("class"), *overrides)
