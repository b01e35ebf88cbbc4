"""The settings in which runs differ."""

from __future__ import annotations

from typing import Any

from open_ldm.commands.differing import ABSENT, differing_settings, names_by_settings


def recipe(name: str, **training: Any) -> dict[str, Any]:
    return {"name": name, "training": {"seed": 0, "batch_size": 8, **training}}


def test_only_what_differs_is_listed_and_a_name_is_no_setting() -> None:
    rows = differing_settings([recipe("a"), recipe("b", seed=3), recipe("c", dtype="bf16")])
    assert [(row.setting, row.values) for row in rows] == [
        ("training.seed", ("0", "3", "0")),
        ("training.dtype", (ABSENT, ABSENT, "bf16")),
    ]
    assert differing_settings([recipe("a"), recipe("b")]) == []


def test_runs_are_named_by_one_or_two_settings_in_the_fewest_words() -> None:
    configs = [{"data": {"seed": 1}, "training": {"seed": 1}}, {"data": {"seed": 2}, "training": {"seed": 3}}]
    rows = differing_settings(configs)
    assert names_by_settings(["a", "b"], rows) == ["a (data.seed=1, training.seed=1)", "b (data.seed=2, training.seed=3)"]
    assert names_by_settings(["a", "b"], rows[:1]) == ["a (seed=1)", "b (seed=2)"]
    assert names_by_settings(["a", "b"], []) == names_by_settings(["a", "b"], [*rows, rows[0]]) == ["a", "b"]


def test_what_means_the_same_under_another_schema_is_no_difference() -> None:
    before = {"recipe_schema": 2, "data": {"seed": 1}}
    now = {"recipe_schema": 3, "data": {"seed": 1, "order": {"kind": "global"}}}
    assert differing_settings([before, now]) == []
    (row,) = differing_settings([before, {**now, "data": {"seed": 1, "order": {"kind": "windowed"}}}])
    assert (row.setting, row.values) == ("data.order.kind", ("global", "windowed"))
