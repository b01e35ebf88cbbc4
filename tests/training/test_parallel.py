"""Which settings let several processes share a recipe, and what they leave as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from open_ldm.core.config import to_yaml
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.training import parallel
from open_ldm.training.parallel import choose_sharing, require_same_recipe_on_all, world_of
from open_ldm.training.settings import ParallelConfig
from tests.training.small_run import settings


@pytest.mark.parametrize(("kind", "size"), [("single", 1), ("auto", 2), ("ddp", 2), ("fsdp", 2)])
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


class Eight(World):
    """Eight processes, the fourth of which has the smallest card."""

    def __init__(self) -> None:
        super().__init__(0, 8)

    def gathered(self, value: Any, name: str = "") -> list[Any]:
        return [value, value, value, value // 2, *[value] * 4]


@pytest.mark.parametrize(("card_bytes", "kind"), [(3_200, "ddp"), (3_198, "fsdp")])
def test_auto_takes_whole_models_where_they_fit_in_half_of_the_smallest_card(
    card_bytes: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=card_bytes))
    model = torch.nn.Linear(7, 5)  # 40 parameters: 800 bytes in training
    found = choose_sharing(ParallelConfig(), model, Eight(), torch.device("cuda"))
    assert (found.kind, found.replicate, found.numerics) == (kind, 1, kind)
    assert "20 bytes x 40 parameters" in found.sentence and f"({kind})" in found.sentence
    assert "24 bytes" in choose_sharing(ParallelConfig(), model, Eight(), torch.device("cuda"), averages=2).sentence
    assert choose_sharing(ParallelConfig(), model, Eight(), torch.device("cpu")).kind == "ddp"
    assert choose_sharing(ParallelConfig(kind="fsdp"), model, World(), torch.device("cpu")).sentence == ""


def test_copies_of_a_model_in_shards_share_the_processes_evenly() -> None:
    model, cpu = torch.nn.Linear(7, 5), torch.device("cpu")
    found = choose_sharing(ParallelConfig(kind="fsdp", replicate=2), model, Eight(), cpu)
    assert found.in_shards and found.numerics == "fsdp x2" and "1/4 of the model" in found.sentence
    with pytest.raises(ConfigError, match=r"replicate=3 does not divide 8 processes; needed: one of 1, 2, 4, 8"):
        choose_sharing(ParallelConfig(kind="fsdp", replicate=3), model, Eight(), cpu)
    with pytest.raises(ConfigError, match="replicate 2 has no effect with kind ddp"):
        load_recipe("demo", ["parallel.kind=ddp", "parallel.replicate=2"])
