"""`ldm speedrun`: times, the frozen level, and two recipes small enough for a test."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from open_ldm.commands.plan.speed import Speed
from open_ldm.core.errors import ConfigError, DataError, StoppedError
from open_ldm.core.events import Event
from open_ldm.core.others import cores_of_others
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.studies.results import Value
from open_ldm.studies.speedrun import Choice, Speedrun, cost_of
from open_ldm.studies.speedrun.curve import Curve, Point, seconds_of_training, time_to
from open_ldm.studies.speedrun.found import Found
from open_ldm.studies.speedrun.level import Level
from open_ldm.studies.speedrun.settings import sides_of, training_of
from open_ldm.studies.speedrun.table import BEGIN, END, level_in_words, rows_of, update_table
from tests.runs.tiny import tiny_recipe
from tests.studies.small import FIT

DATA = ("data.source.length=80", "data.holdout={share: 0.2}", "training.samples=16")
FEW = BootstrapConfig(replicates=20)
CHOICE = Choice(seeds=2, first_seed=7, points=2, pictures=16, steps=2, fit=FIT, bootstrap=FEW)


def at(second: float, name: str, seen: int, **fields: float) -> Event:
    return Event(name, f"2026-01-01T00:00:{second:06.3f}+00:00", seen, fields)


def test_only_training_counts() -> None:
    events = [
        at(1, "start", 0),
        at(3, "held_out", 10, seconds=0.5),
        at(6, "checkpoint", 10, seconds=1.0),  # 5 s by the clock, 1.5 of them no training
        at(9, "checkpoint", 20, seconds=1.0),
        at(10, "train", 25),  # lost with the process
        at(30, "resume", 20),
        at(34, "checkpoint", 30, seconds=2.0),
    ]
    assert seconds_of_training(events) == pytest.approx({10: 3.5, 20: 5.5, 30: 7.5})
    beside = [at(1, "start", 0), at(6, "checkpoint", 10, seconds=3.0, waited_seconds=0.5), at(9, "checkpoint", 20, seconds=1.0)]
    assert seconds_of_training(beside) == pytest.approx({10: 2.0, 20: 6.5})  # a save that went on beside training
    again = [*events[:4], at(40, "start", 0), at(42, "checkpoint", 10, seconds=0.0)]
    assert seconds_of_training(again) == pytest.approx({10: 2.0})


def test_a_save_beside_training_counts_only_while_training_waited() -> None:
    events = [
        at(0, "start", 0),
        at(14, "checkpoint", 10, seconds=4.0, waited_seconds=0.5),  # begun at 10 s; training went on at 10.5
        at(25, "checkpoint", 20, seconds=5.0, waited_seconds=0.5),
    ]
    assert seconds_of_training(events) == pytest.approx({10: 10.0, 20: 19.5})


def test_waits_for_a_save_snapshots_of_averages_and_reports_are_no_training() -> None:
    events = [
        at(0, "start", 0),
        at(4, "paused", 5, seconds=1.0),  # a snapshot of averages
        at(18, "checkpoint", 10, seconds=8.0, waited_seconds=0.5),  # begun at 10 s, and waited for from 15 s on
        at(18, "paused", 20, seconds=3.0),
        at(20, "checkpoint", 20, seconds=2.0),
        at(21, "paused", 20, seconds=1.0),  # a new report
        at(24, "checkpoint", 30, seconds=0.0),
    ]
    assert seconds_of_training(events) == pytest.approx({10: 9.0, 20: 13.5, 30: 16.5})


def test_a_process_lost_before_the_event_of_its_checkpoint_loses_no_time() -> None:
    events = [at(0, "start", 0), at(5, "checkpoint", 10, seconds=1.0), at(8, "train", 15), at(30, "resume", 20)]
    assert seconds_of_training([*events, at(33, "checkpoint", 30, seconds=1.0)]) == pytest.approx(
        {10: 4.0, 20: 7.0 * 20 / 15, 30: 7.0 * 20 / 15 + 2.0}
    )


def curve(seed: int, losses: list[float], speed: float = 1.0) -> Curve:
    points = [Point(10 * n, speed * n, {"fid": Value(loss, loss - 1, loss + 1, "p")}) for n, loss in enumerate(losses, start=1)]
    return Curve(seed, 0.0, tuple(points), 1.5 * speed * len(losses))


def test_the_time_is_the_median_of_first_crossings() -> None:
    curves = [curve(0, [9, 5, 7, 3]), curve(1, [9, 8, 5, 4]), curve(2, [9, 8, 7, 4])]
    found = time_to(curves, "fid", 5)
    assert found.seconds == (2, 3, 4) and found.median == 3 and found.sure and found.reached == 3
    assert found.at is not None and found.at.value == 5 and found.text() == "3 s (2 to 4)"
    late = time_to([curve(0, [9, 5]), curve(1, [9, 8]), curve(2, [9, 7])], "fid", 5)
    assert late.reached == 1 and not late.sure and late.at is None and late.text() == "> 3 s (2 to 3)"


def test_a_seed_that_does_not_reach_the_level_is_later_than_all_that_do() -> None:
    short = curve(1, [9, 8], speed=0.5)  # its whole training took less than the others to the level
    found = time_to([curve(0, [9, 9, 4]), short, curve(2, [9, 9, 9, 4])], "fid", 5)
    assert found.seconds == (3, 1.5, 4) and found.median == 4 and found.sure and found.at is not None
    even = time_to([curve(0, [9, 9, 4]), short], "fid", 5)
    assert even.median == pytest.approx(2.25) and not even.sure and even.at is None


def test_what_does_not_reach_the_level_is_not_said_to_be_sooner() -> None:
    level = Level("demo", {}, (7,), {"held_out_loss": 5.0, "fid": 5.0}, {}, {})
    good, bound = time_to([curve(0, [9, 4])], "fid", 5), time_to([curve(0, [9, 8], speed=0.5)], "fid", 5)
    times = {"base": dict.fromkeys(level.values, good), "worse": dict.fromkeys(level.values, bound)}
    found = Found(level, times, {}, "", "", (), "", (7,))
    assert found.ratio("fid", "worse") is None
    assert found.to_json()["recipes"]["worse"]["ratios"] == dict.fromkeys(level.values)
    assert "do not reach" in found.text() and "sooner" not in found.text()
    turned = Found(level, {"base": times["worse"], "better": times["base"]}, {}, "", "", (), "", (7,))
    assert "at least 0.75 times sooner" in turned.text()


def test_a_row_names_the_seeds_and_the_processors_of_its_own_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = Value(5.0, 4.0, 6.0, "p")
    level = Level("demo", {}, (100, 101, 102), {"held_out_loss": 5.0, "fid": 5.0}, {}, {})
    run = speedrun(tmp_path / "out", choice=replace(CHOICE, first_seed=200))
    for name in ("_stats", "_features", "_train"):
        monkeypatch.setattr(Speedrun, name, lambda *_: None)
    point = Point(4, 9.0, {"held_out_loss": value, "fid": value})
    monkeypatch.setattr(Speedrun, "_curve", lambda _, training, level: Curve(training.seed, 0.0, (point,), 9.0))
    monkeypatch.setattr(Speedrun, "_frozen", lambda *_: level)
    (tmp_path / "out" / "base-seed200").mkdir(parents=True)
    (tmp_path / "out" / "base-seed200" / "speedrun-began.json").write_text('{"busy_cores": 0.0, "machine": "another"}')
    found = run.run()
    assert found.machine.startswith("another; ") and "| 200 to 201 |" in rows_of(found)[f"| {level_in_words(level)} | base |"]


def speedrun(out: Path, *more: str, choice: Choice = CHOICE, changes: tuple[str, ...] = DATA, name: str = "tuned") -> Speedrun:
    sides = sides_of(str(tiny_recipe(out.parent)), changes, None, more, name)
    return Speedrun(sides, out, choice, ["ldm", "speedrun", "tiny"])


def test_every_checkpoint_of_the_interval_stays_to_be_measured_and_those_of_stops_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = replace(CHOICE, points=4)
    run = speedrun(tmp_path / "out", choice=choice, changes=(*DATA[:2], "training.samples=92"))
    (training,) = [training_of(side, 7, tmp_path / "out", choice, None) for side in run.sides]
    settings = training.recipe.training
    names = [*range(settings.checkpoint_every_samples, 92, settings.checkpoint_every_samples), 84, 92]
    assert settings.keep_checkpoints >= len(names) + 5  # stops save too
    for seen in names:
        (training.run / "checkpoints" / f"samples-{seen:012d}").mkdir(parents=True)
    lines = [at(0, "start", 0), *(at(seen / 2, "checkpoint", seen, seconds=0.0) for seen in sorted(names))]
    text = [{"event": one.name, "time": one.time, "samples_seen": one.samples_seen, **one.fields} for one in lines]
    (training.run / "events.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in text))
    value = Value(9.0, 8.0, 10.0, "p")
    monkeypatch.setattr(Speedrun, "_measure", lambda *_: {"held_out_loss": value, "fid": value})
    found = run._curve(training, Level("tiny", {}, (7,), {"held_out_loss": 5.0, "fid": 5.0}, {}, {}))
    assert [each.samples_seen for each in found.points] == [20, 40, 60, 80, 92] and found.whole_seconds == 46


def test_what_cannot_be_measured_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    few = speedrun(tmp_path / "out", changes=("data.source.length=20", *DATA[1:]))
    with pytest.raises(ConfigError, match=r"pictures are held out; needed: more than 8"):
        few.run()
    assert not (tmp_path / "out").exists()


def test_a_held_out_share_beside_that_of_the_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--held-out 0\.3 was given, and .* holds a part out by data\.holdout"):
        speedrun(tmp_path / "out", choice=replace(CHOICE, held_out=0.3))
    held_out = speedrun(tmp_path / "out", changes=("data.holdout=null", *DATA[2:])).base.data.holdout
    assert held_out is not None and held_out.share == 0.1


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speedrun") / "out"
    speedrun(folder, "training.optimizer.learning_rate=0.01").run()
    return folder


def test_a_signal_while_features_are_fitted_tells_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object, **options: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        options["interrupt"]()  # type: ignore[operator]

    monkeypatch.setattr("open_ldm.studies.speedrun.run.own_features", stopped)
    with pytest.raises(StoppedError, match="stopped by SIGTERM and saved; fix: go on with: ldm speedrun tiny"):
        speedrun(tmp_path / "out")._features()


def test_both_recipes_are_timed_to_the_level_of_the_first(out: Path) -> None:
    found = json.loads((out / "speedrun.json").read_text())
    level = found["level"]
    assert level["seeds"] == [7, 8] and level["values"]["fid"] == pytest.approx(sum(level["each"]["fid"]) / 2)
    assert {"features/classifier.safetensors", "latent_stats.json"} <= level["files"].keys()
    assert any(name.startswith("references/") for name in level["files"])
    recipes = found["recipes"]
    assert recipes.keys() == {"base", "tuned"} and recipes["tuned"]["ratios"].keys() == {"held_out_loss", "fid"}
    base = recipes["base"]["times"]["held_out_loss"]
    assert len(base["seconds"]) == 2 and 1 <= base["reached"] <= 2  # the level is the mean of their ends
    for name in ("base", "tuned"):
        for seed in (7, 8):
            points = json.loads((out / f"{name}-seed{seed}" / "speedrun-points.json").read_text())["points"]
            seconds = [each["seconds"] for each in points]
            assert [each["samples_seen"] for each in points] == [8, 16][: len(points)]
            assert seconds == sorted(seconds) and seconds[0] > 0


def test_the_same_command_trains_and_measures_nothing_anew(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = json.loads((out / "speedrun.json").read_text())
    for name in ("train", "evaluate"):
        monkeypatch.setattr(f"open_ldm.studies.speedrun.run.{name}", lambda *given, **named: pytest.fail("done anew"))
    again = json.loads(json.dumps(speedrun(out, "training.optimizer.learning_rate=0.01").run().to_json()))
    for name in ("base", "tuned"):
        assert again["recipes"][name]["times"] == before["recipes"][name]["times"]
    assert again["level"] == before["level"]


def test_recipes_of_earlier_commands_stay_on_record(out: Path) -> None:
    before = json.loads((out / "speedrun.json").read_text())
    try:
        speedrun(out).run()
        after = json.loads((out / "speedrun.json").read_text())
        assert after["recipes"]["tuned"] == before["recipes"]["tuned"] and after["recipes"].keys() == {"base", "tuned"}
        against_another = {**before, "level": {**before["level"], "seeds": [1]}}
        (out / "speedrun.json").write_text(json.dumps(against_another))
        speedrun(out).run()
        assert json.loads((out / "speedrun.json").read_text())["recipes"].keys() == {"base"}
    finally:
        (out / "speedrun.json").write_text(json.dumps(before))


def test_a_training_lost_before_its_last_event_still_has_its_time(out: Path, tmp_path: Path) -> None:
    there = shutil.copytree(out, tmp_path / "out")
    tiny_recipe(tmp_path)
    for file in ("events.jsonl", "speedrun-points.json"):
        (there / "base-seed7" / file).rename(tmp_path / file)
    lines = (tmp_path / "events.jsonl").read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if json.loads(line)["event"] == "checkpoint")
    (there / "base-seed7" / "events.jsonl").write_text("".join(lines[:last]))
    found = speedrun(there, "training.optimizer.learning_rate=0.01").run()
    assert all(each > 0 for each in found.times["base"]["fid"].seconds)


def test_a_recipe_of_another_name_is_measured_against_the_same_level(out: Path) -> None:
    with pytest.raises(ConfigError, match=r"started with training\.optimizer\.learning_rate.*a --name of its own"):
        speedrun(out, "training.optimizer.learning_rate=0.02").run()
    with pytest.raises(ConfigError, match="frozen by other settings"):
        speedrun(out, choice=replace(CHOICE, pictures=20))
    with pytest.raises(ConfigError, match=r"'tuned' has another data\.source than"):
        speedrun(out, "data.source.two_shapes=0.5")
    with pytest.raises(ConfigError, match=r"'tuned' has another process\.schedule"):
        speedrun(out, "process.schedule.kind=linear", "process.prediction=eps")
    speedrun(out, "process.prediction=x_0")  # its loss is told as that of the first recipe
    with pytest.raises(ConfigError, match="at least 50 updates"):
        speedrun(out, choice=Choice(points=50))


def test_a_level_whose_files_changed_is_refused(out: Path) -> None:
    file = out / "level" / "latent_stats.json"
    whole = file.read_text()
    file.write_text(whole + " ")
    try:
        with pytest.raises(DataError, match=r"latent_stats\.json is not the file by which the level was frozen"):
            speedrun(out)
    finally:
        file.write_text(whole)


def test_records_are_rows_that_are_replaced_by_name(out: Path, tmp_path: Path) -> None:
    page = tmp_path / "speedrun.md"
    page.write_text(f"# Records\n\n{BEGIN}\n{END}\n\nBelow.\n")
    found = speedrun(out, "training.optimizer.learning_rate=0.01").run()
    lines = found.text().splitlines()
    assert len(lines) == 4 and lines[0].startswith("base: held_out_loss ") and lines[3].startswith("tuned: fid ")
    update_table(page, found)
    update_table(page, found)
    text = page.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "level of" not in line]
    assert (
        len(rows) == 2
        and rows[1].split(" | ")[:2] == [f"| {level_in_words(found.level)}", "tuned"]
        and "`ldm speedrun tiny`" in rows[1]
        and "7 to 8" in rows[1]
    )
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1 and text.endswith("Below.\n")
    update_table(page, replace(found, level=replace(found.level, recipe="tiny training.samples=8", values={"fid": 1.0})))
    levels = [line.split(" | ")[0] for line in page.read_text().splitlines() if line.startswith("| tiny")]
    assert len(levels) == 4 and len(set(levels)) == 2  # what another level was set by is no row of this one
    update_table(page, replace(found, level=replace(found.level, measured={**found.level.measured, "pictures": 9})))
    levels = [line.split(" | ")[0] for line in page.read_text().splitlines() if line.startswith("| tiny")]
    assert len(levels) == 6 and len(set(levels)) == 3  # nor is one that the same recipe set, measured in another way
    assert sum("tiny `training.samples=8`, level " in level for level in levels) == 2
    page.write_text("# No place\n")
    with pytest.raises(ConfigError, match="no place for records"):
        update_table(page, found)


def test_what_it_takes_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planning = import_module("open_ldm.commands.plan.plan")
    monkeypatch.setattr(planning, "measure_speed", lambda *given: Speed(50.0, True, "as told"))
    sides = sides_of(str(tiny_recipe(tmp_path)), DATA, None, ["training.samples=32"], "longer")
    found = cost_of(sides, CHOICE)
    base, longer = found.sides
    assert longer.training == pytest.approx(2 * base.training) and base.measuring == longer.measuring
    more = cost_of(sides, replace(CHOICE, seeds=4))
    assert more.seconds == pytest.approx(2 * found.seconds)
    assert f"features are fitted, by {CHOICE.fit.pictures:,} pictures shown" in found.text()


def test_cores_of_others_is_a_number_of_cores() -> None:
    assert 0 <= cores_of_others(0.05) < 10_000
