"""The charts of a study."""

from __future__ import annotations

from pathlib import Path

from open_ldm.pages.charts import Cell, Forest, HeatMap, Plot, Series
from open_ldm.studies.charts import condition_charts, map_charts, metric_charts, save_charts, token_charts
from open_ldm.studies.found import SettingFound, StudyFound, words_of
from open_ldm.studies.report import markdown_of
from open_ldm.studies.results import Measured, Value, at
from open_ldm.studies.study import Arm, Expectation, Figure, Protocol, Setting, Study

ARMS = ("0.9, 0.95", "0.9, 0.99")


def setting(points: int = 1) -> SettingFound:
    tokens = {name: {"token": [0.5, 0.25, None], "padding": [None, 0.25, 0.25]} for name in ("attention", "gradient")}
    measured = [
        Measured(
            arm, seed, samples, {"fid": Value(level + seed, level, level + 2, "p")}, tokens=tokens if arm == ARMS[0] else {}
        )
        for level, arm in enumerate(ARMS, start=10)
        for seed in (0, 1)
        for samples in (100, 200)[-points:]
    ]
    declared = Setting("my shapes", "demo", dict.fromkeys(ARMS, Arm()), Protocol(points=points))
    return SettingFound(declared, tuple(measured), {}, frozenset(), ())


def test_arms_are_side_by_side_with_their_seeds() -> None:
    (each,) = metric_charts(setting())
    assert isinstance(each.chart, Forest) and "lower is better" in each.chart.title
    assert [(row.name, row.mean, list(row.seeds)) for row in each.chart.rows] == [
        (ARMS[0], 10.5, [10, 11]),
        (ARMS[1], 11.5, [11, 12]),
    ]
    assert all(row.low < row.mean < row.high for row in each.chart.rows)


def test_arms_that_were_measured_on_the_way_are_curves() -> None:
    (each,) = metric_charts(setting(points=2))
    assert isinstance(each.chart, Plot)
    first = each.chart.series[0]
    assert (first.name, list(first.x), list(first.y)) == (ARMS[0], [100, 200], [10.5, 10.5])
    assert all(low < mean < high for mean, (low, high) in zip(first.y, first.band, strict=True))


def test_pairs_of_settings_are_a_map() -> None:
    assert map_charts(setting(), None) == []
    (each,) = map_charts(setting(), ("beta_1", "beta_2"))
    assert isinstance(each.chart, HeatMap) and each.chart.axes == ("beta_1", "beta_2")
    assert each.chart.cells == [Cell("0.9", "0.95", 10.5), Cell("0.9", "0.99", 11.5)]


def test_places_without_a_token_are_gaps_and_words_end_with_the_longest_caption() -> None:
    words, places, *gradient = token_charts(setting())
    assert isinstance(words.chart, Plot) and isinstance(places.chart, Plot) and len(gradient) == 2
    (token,), (padding,) = words.chart.series, places.chart.series  # of the first seed alone
    assert token.name == padding.name == ARMS[0]
    assert list(token.y) == [0.5, 0.25]  # ends with the longest caption
    assert padding.y[0] != padding.y[0] and list(padding.x) == [1, 2, 3] and list(padding.y)[1:] == [0.25, 0.25]


def test_every_chart_is_a_file_of_its_own(tmp_path: Path) -> None:
    drawing = Figure("a caption", Plot("gates / of controls", "t", "gamma", [Series("a", [0, 1], [1, 0])]))
    study = Study("s", "S", "a table", "a question?", "a claim", figures=lambda: [drawing], grid=("beta_1", "beta_2"))
    written = save_charts(StudyFound(study, "tiny", (setting(),), ()), tmp_path, "svg")
    tokens = [f"my-shapes-{name}-of-{where}" for name in ("attention", "gradient") for where in ("words", "padding")]
    names = ["gates-of-controls", "my-shapes-fid", "my-shapes-map-fid", *tokens]
    assert [path.name for path in written] == [f"figure-{name}.svg" for name in names]
    assert all(path.read_text().startswith("<svg") for path in written)


def at_conditions() -> SettingFound:
    """Two arms and two seeds: a loss at two noise levels, and a share in two groups of captions."""
    levels = (at("held_out_loss", "t=0.05"), at("held_out_loss", "t=0.95"))
    names = ("held_out_loss", *levels, at("agreement_kind", "few words"), at("agreement_kind", "many words"))
    measured = [
        Measured(arm, seed, 100, {name: Value(level + seed + place, 0, 99, "p") for place, name in enumerate(names)})
        for level, arm in enumerate(ARMS, start=10)
        for seed in (0, 1)
    ]
    return SettingFound(Setting("mine", "demo", dict.fromkeys(ARMS, Arm()), Protocol()), tuple(measured), {}, frozenset(), ())


def test_noise_levels_are_a_curve_and_groups_stand_beside_each_other() -> None:
    found = at_conditions()
    assert found.metrics == ["held_out_loss"]
    assert found.conditions == {"held_out_loss": ["t=0.05", "t=0.95"], "agreement_kind": ["few words", "many words"]}
    assert [each.name for each in metric_charts(found)] == ["mine held_out_loss"]
    levels, groups = (each.chart for each in condition_charts(found))
    assert isinstance(levels, Plot) and isinstance(groups, Forest)
    assert [(each.name, list(each.x), list(each.y)) for each in levels.series] == [
        (ARMS[0], [0.05, 0.95], [11.5, 12.5]),
        (ARMS[1], [0.05, 0.95], [12.5, 13.5]),
    ]
    assert [(row.name, row.mean) for row in groups.rows] == [
        (f"few words: {ARMS[0]}", 13.5),
        (f"few words: {ARMS[1]}", 14.5),
        (f"many words: {ARMS[0]}", 14.5),
        (f"many words: {ARMS[1]}", 15.5),
    ]
    assert condition_charts(setting()) == []


def test_metrics_at_conditions_have_tables_of_their_own_and_can_be_expected() -> None:
    expected = Expectation(ARMS[0], ARMS[1], at("agreement_kind", "few words"), "higher")
    missing = Expectation(ARMS[0], ARMS[1], at("agreement_kind", "no words"), "higher")
    study = Study("one", "One", "nothing", "?", "!", (expected, missing))
    found = StudyFound(study, "tiny", (at_conditions(),))
    (finding,) = found.findings
    assert finding.text().startswith("kind, few words, 0.9, 0.95 against 0.9, 0.99 (expected higher): higher in 0 of 2 seeds")
    assert words_of(at("agreement_kind", "few words")).better == "higher"
    lines = markdown_of(found).splitlines()
    assert "| arm | seeds | held-out loss |" in lines
    assert lines[lines.index("Of kind:") + 2] == "| arm | few words | many words |"
    assert lines[lines.index("Of held-out loss:") + 2] == "| arm | t=0.05 | t=0.95 |"
