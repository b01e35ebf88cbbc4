"""Which settings let several processes share a recipe, and what they leave as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from open_ldm.core.config import to_yaml
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.training import parallel
from open_ldm.training.parallel import require_same_recipe_on_all, world_of
from open_ldm.training.settings import ParallelConfig
from tests.training.small_run import settings


@pytest.mark.parametrize(("kind", "size"), [("single", 1), ("auto", 2), ("ddp", 2)])
def test_single_refuses_more_than_one_process(kind: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe: Any = SimpleNamespace(training=settings(device="cpu"), parallel=ParallelConfig(kind=kind, timeout_seconds=7))
    waits: list[float] = []
    monkeypatch.setattr(parallel, "join_world", lambda device, seconds: waits.append(seconds) or World(0, size))
    assert world_of(recipe).size == size and waits == [7]
    monkeypatch.setattr(parallel, "join_world", lambda device, seconds: World(0, 2))
    if kind == "single":
        with pytest.raises(ConfigError, match="2 processes were started"):
            world_of(recipe)


def test_how_processes_work_together_is_no_part_of_the_numbers() -> None:
    usual, patient = load_recipe("demo"), load_recipe("demo", ["parallel.timeout_seconds=60"])
    assert "parallel" not in yaml.safe_load(to_yaml(usual))  # as it was before there was such a setting
    assert yaml.safe_load(to_yaml(patient))["parallel"] == {"kind": "auto", "timeout_seconds": 60}
    assert usual.numerics == patient.numerics
    assert Recipe.model_validate(yaml.safe_load(to_yaml(patient))) == patient


def test_paths_and_workers_may_differ_from_machine_to_machine() -> None:
    compared: list[dict[str, Any]] = []

    class Two(World):
        def agreed(self, name: str, value: Any, *more: Any) -> None:
            compared.append(value)

    for path, workers, size in (("/a", 1, 4), ("/b", 2, 4), ("/a", 1, 8)):
        changes = [f"data.source.path={path}", f"data.workers={workers}", f"training.batch_size={size}"]
        require_same_recipe_on_all(load_recipe("photos-dit", changes), Two())
    assert compared[0] == compared[1] != compared[2]
