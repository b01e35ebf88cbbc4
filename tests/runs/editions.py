"""A package of recipes of several editions, in place of the packaged ones."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from open_ldm.runs import catalogue
from tests.runs.autoencoder.tiny import TINY as AUTOENCODER
from tests.runs.tiny import DENOISERS, TINY

FIRST_RATE, SECOND_RATE = 0.001, 0.004
"""Learning rates of both editions of every recipe."""
DIT = yaml.safe_load(DENOISERS["dit"][0].partition("=")[2])


class Package:
    """`tiny`, `twin` that extends it with another denoiser, `staged`, and `tiny-autoencoder`; all of the first edition.

    Args:
        root: A folder of its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "recipes" / "autoencoder").mkdir(parents=True)
        stages = [{"name": "one", "training": {"samples": 8}}, {"name": "two", "training": {"samples": 16}}]
        self.write("recipes/tiny.yaml", short(TINY))
        self.write("recipes/twin.yaml", {"extends": "tiny", "name": "twin", "denoiser": DIT})
        self.write("recipes/staged.yaml", {"extends": "tiny", "name": "staged", "stages": stages})
        self.write("recipes/autoencoder/tiny-autoencoder.yaml", short(AUTOENCODER))

    def write(self, path: str, content: dict[str, Any]) -> None:
        """Write a recipe, with an opening comment."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text("# For tests.\n" + yaml.safe_dump(content, sort_keys=False))

    def tune(self, folder: str, name: str, edition: int = 2, rate: float = SECOND_RATE) -> None:
        """What a maintainer does: move the file, raise one number, change the recipe."""
        newest = self.root / folder / f"{name}.yaml"
        content = yaml.safe_load(newest.read_text())
        (self.root / folder / "earlier").mkdir(exist_ok=True)
        newest.rename(newest.parent / "earlier" / f"{name}@{edition - 1}.yaml")
        content["training"]["optimizer"]["learning_rate"] = rate
        self.write(f"{folder}/{name}.yaml", {**content, "edition": edition})


def short(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe of a few updates."""
    whole = copy.deepcopy(content)
    whole["training"] |= {"samples": 16, "checkpoint_every_samples": 8, "preview_every_samples": 0}
    return whole


def package(root: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Make recipes of the first edition, and let every command see them in place of the packaged ones."""
    monkeypatch.setattr(catalogue, "_ROOT", root)
    return Package(root)
