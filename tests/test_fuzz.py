"""A small sample of benchmarks/fuzz.py, always the same: every input is refused in one line, or understood as it was meant."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from open_ldm.core.errors import DataError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = ("fuzz", "fuzz_mutate", "fuzz_recipes", "fuzz_files", "fuzz_commands")


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fuzz

    yield fuzz
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "count"), [("recipes", 6), ("metadata", 30), ("shards", 20), ("pictures", 30), ("command lines", 6)]
)
def test_odd_input_is_refused_in_one_line_or_understood(
    fuzz: ModuleType, name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # which it would set for good
    kind = fuzz.kinds(tmp_path, only=[name])[name]
    begun = kind.begun()[:2]
    kind.begun = lambda: begun  # the rest costs seconds
    found = fuzz.fuzz(kind, count, name)
    assert not found.faults, found.faults[0]
    assert found.count.total() >= count - 2 and fuzz.FINE == ("accepted", "refused")


class Odd:
    """Input whose reading ends as it says."""

    def read(self, given: BaseException | str | None) -> str | None:
        if isinstance(given, BaseException):
            raise given
        while given == "hang":
            pass
        return given


@pytest.mark.parametrize(
    ("given", "how"),
    [
        (None, "accepted"),
        ("no", "refused"),
        (DataError("no pictures"), "refused"),
        ("x" * 300, "line"),
        ("\x1b[2J", "line"),
        (KeyError("x"), "traceback"),
        ("hang", "hang"),
    ],
)
def test_every_ending_has_its_name(fuzz: ModuleType, given: object, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.05)
    assert fuzz.ending(Odd(), given)[0] == how


def test_what_a_recipe_says_and_does_not_mean_is_nonsense(fuzz: ModuleType, tmp_path: Path) -> None:
    from fuzz_recipes import SMALL, _lost
    from open_ldm.runs.recipe import recipe_from

    meant = recipe_from({**SMALL, "stages": []}, [], source="x")
    assert list(_lost({**SMALL, "stages": []}, meant, "recipe")) == []
    training = {
        **SMALL["training"],
        "samples": 97,
        "batch_size": True,
        "seeds": 1,
        "seed": "0",
        "ema": {"decay": 0.99, "warmup": 1},
    }
    lost = list(_lost({"training": training}, meant, "recipe"))
    assert [each.split("=")[0] for each in lost] == [
        f"recipe.training.{name}" for name in ("samples", "batch_size", "seeds has no meaning")
    ]


def test_mutations_change_something_and_leave_the_original(fuzz: ModuleType) -> None:
    from fuzz_mutate import Lines, mutated_bytes, mutated_tree
    from open_ldm.core.errors import cut

    draw, tree = random.Random(0), {"a": {"b": [1, 2]}, "c": "text"}
    assert sum(mutated_bytes(b"some content", draw) != b"some content" for _ in range(50)) > 45
    assert sum(repr(mutated_tree(tree, draw)) != repr(tree) for _ in range(50)) > 40 and tree == {
        "a": {"b": [1, 2]},
        "c": "text",
    }
    lines = Lines()
    for text, new in (("x", True), ("y", False), ("x" * 100, True)):
        with lines:
            cut(text)
        assert bool(lines.new) == new
