"""What a feed sends to any tracker, and that no tracker stops or changes a training."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import PrivateAttr, TypeAdapter

from open_ldm.cli.main import main
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import Event, EventLog
from open_ldm.core.files import write_json
from open_ldm.core.hashes import hash_tensors
from open_ldm.evaluation.bootstrap import Estimate
from open_ldm.evaluation.protocol import MeasurementProtocol, Result
from open_ldm.evaluation.stored import store
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.load import load_model
from open_ldm.runs.recipe import Recipe, load_recipe, recipe_from
from open_ldm.runs.tracked import send_evaluations
from open_ldm.runs.train import train
from open_ldm.tracking import TrackedRun, Tracker, Trackers, check_trackers
from open_ldm.tracking.feed import Feed
from open_ldm.tracking.sent import FILE, read_sent
from open_ldm.tracking.tensorboard import TensorBoard
from tests.runs.tiny import TINY, tiny_recipe


class Remembered(Tracker):
    """Keeps what it is sent; fails at the step `fails_at`, and always while it begins where that is 0."""

    kind: Literal["remembered"] = "remembered"
    fails_at: int | None = None
    got: ClassVar[list[tuple[int, str, float | str]]] = []
    ends: ClassVar[list[int | None]] = []
    _name: str = PrivateAttr("")

    def begin(self, run: TrackedRun) -> str:
        if self.fails_at == 0:
            raise ConnectionError("no route\nto host")
        self._name = run.id or "given once"
        return self._name

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise TimeoutError("the server is asleep")
        self.got.extend((step, name, value) for name, value in values.items())

    def picture(self, step: int, name: str, file: Path, captions: Sequence[str]) -> None:
        self.got.append((step, name, file.name))

    def end(self, code: int | None) -> None:
        self.ends.append(code)


@pytest.fixture(autouse=True)
def _empty() -> None:
    Remembered.got.clear()
    Remembered.ends.clear()


def work(folder: Path, first: int, last: int, *trackers: Any, code: int | None = None, recipe: str = "r") -> list[str]:
    """One process of a run that reports every 4 samples; returns what it warned of."""
    warned: list[str] = []
    feed = Feed(TypeAdapter(Trackers).validate_python(trackers), folder, warned.append)
    with EventLog(folder / "events.jsonl") as log:

        def event(name: str, step: int, **fields: Any) -> Event:
            log.write(name, samples_seen=step, **fields)
            return Event(name, "", step, fields)

        now = event("resume" if first else "start", first, fingerprint={"recipe": recipe, "data": "d"})
        feed.begin(TrackedRun("run", folder, "", {}), now)
        for step in range(first + 4, last + 1, 4):
            feed.event(event("train", step, loss=float(step)))
        feed.end(code)
    return warned


def steps() -> list[int]:
    return [step for step, name, _ in Remembered.got if name == "train/loss"]


def test_nothing_is_sent_twice_and_nothing_backwards(tmp_path: Path) -> None:
    work(tmp_path, 0, 24, "remembered")
    work(tmp_path, 16, 32, "remembered", code=0)
    assert steps() == list(range(4, 33, 4))
    assert Remembered.ends == [None, 0]
    assert read_sent(tmp_path, ["remembered"], "")["remembered"].id == "given once"


def test_a_tracker_that_is_added_later_gets_what_the_model_has_learned_by(tmp_path: Path) -> None:
    work(tmp_path, 0, 24)
    work(tmp_path, 16, 20)
    work(tmp_path, 20, 28, "remembered")
    assert steps() == list(range(4, 29, 4))


def test_a_folder_that_begins_another_training_begins_anew(tmp_path: Path) -> None:
    work(tmp_path, 0, 12, "remembered")
    work(tmp_path, 0, 8, "remembered")  # killed before its first save: the same again
    assert steps() == [4, 8, 12]
    work(tmp_path, 0, 8, "remembered", recipe="another")
    assert steps() == [4, 8, 12, 4, 8]


def test_a_tracker_that_fails_is_named_once_and_gets_the_rest_from_the_next_process(tmp_path: Path) -> None:
    (said,) = work(tmp_path, 0, 24, {"kind": "remembered", "fails_at": 12})
    assert "remembered failed" in said and "TimeoutError: the server is asleep" in said and "training goes on" in said
    assert steps() == [4, 8] and Remembered.ends == []
    assert work(tmp_path, 24, 32, "remembered") == []
    assert steps() == list(range(4, 33, 4))


def test_what_an_earlier_version_wrote_of_a_failed_tracker_still_counts(tmp_path: Path) -> None:
    work(tmp_path, 0, 24, "remembered")
    record = {"id": "given once", "missing_from": 12, "evaluations": []}
    write_json(tmp_path / FILE, {"training": "r d", "trackers": {"remembered": record}})
    work(tmp_path, 24, 28)  # of a process that leaves the tracker out
    Remembered.got[:] = [one for one in Remembered.got if one[0] < 12]
    assert work(tmp_path, 28, 32, "remembered") == []
    assert steps() == list(range(4, 33, 4))


def test_one_that_cannot_begin_is_no_harm(tmp_path: Path) -> None:
    (said,) = work(tmp_path, 0, 8, {"kind": "remembered", "fails_at": 0})
    assert "no route to host" in said
    work(tmp_path, 8, 12, "remembered")
    assert steps() == [4, 8, 12]


def recipe(tmp_path: Path, *overrides: str) -> Recipe:
    short = ["training.samples=8", "training.preview_every_samples=8", "preview.count=1", "sampling.steps=1"]
    return load_recipe(str(tiny_recipe(tmp_path)), [*short, *overrides])


def test_no_tracker_moves_a_number_of_a_training(tmp_path: Path) -> None:
    plain, tracked = recipe(tmp_path), recipe(tmp_path, "track=[{kind: remembered, fails_at: 8}]")
    assert plain.numerics == tracked.numerics
    assert "track" not in plain.model_dump(mode="json")
    for name, one in (("plain", plain), ("tracked", tracked)):
        train(one, tmp_path / name, silent=True)
    weights = [hash_tensors(load_model(tmp_path / name, "cpu").model.state_dict()) for name in ("plain", "tracked")]
    assert weights[0] == weights[1]
    assert steps() == [4]
    log = (tmp_path / "tracked" / "events.jsonl").read_text()
    assert log.count("remembered failed") == 1


def test_names_settings_and_mistakes() -> None:
    def read(track: Any) -> Recipe:
        return recipe_from({**TINY, "track": track}, (), source="recipe")

    given = read(["tensorboard", {"kind": "wandb", "mode": "offline"}, "remembered"])
    assert [tracker.kind for tracker in given.track] == ["tensorboard", "wandb", "remembered"]
    assert recipe_from(given.model_dump(mode="json"), (), source="recipe") == given
    for track, said in (
        (["tensorboard", "tensorboard"], "tensorboard is listed twice"),
        ([{"kind": "wandb", "mod": "offline"}], "mod"),
        ([{"kind": "remembered", "fails": 3}], "fails"),
    ):
        with pytest.raises(ConfigError, match=said):
            read(track)
    stored = read([{"kind": "mlflow", "uri": "file:x"}])  # of a program that is not here: the run is still read
    with pytest.raises(ConfigError, match="'mlflow', which is no tracker"):
        check_trackers(stored.track)
    with pytest.raises(ConfigError, match=r"'tensorbord'.*tensorboard"):
        check_trackers(read(["tensorbord"]).track)


def test_a_missing_library_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as where it is not installed
    with pytest.raises(SystemExit) as ended:
        main(["train", str(tiny_recipe(tmp_path)), "track=[wandb]", "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1 and "pip install 'open-ldm[track]'" in said
    assert not (tmp_path / "run").exists()


def test_what_fails_at_a_step_is_told_from_what_was_taken_there(tmp_path: Path) -> None:
    (tmp_path / "at.png").write_bytes(b"")

    def previewed(folder: Path, first: int, last: int, kind: str) -> list[str]:
        warned: list[str] = []
        feed = Feed(TypeAdapter(Trackers).validate_python([kind]), folder, warned.append)
        with EventLog(folder / "events.jsonl") as log:
            for event in (Event("resume" if first else "start", "", first), *_steps(first, last)):
                log.write(event.name, samples_seen=event.samples_seen, **event.fields)
                if event.name in ("start", "resume"):
                    feed.begin(TrackedRun("run", folder, "", {}), event)
                else:
                    feed.event(event)
        return warned

    assert len(previewed(tmp_path, 0, 12, "blind")) == 1
    Blind.blind = False
    assert previewed(tmp_path, 12, 16, "blind") == []
    assert steps() == [4, 8, 12, 16], "the loss of step 4 was taken before the preview failed"
    assert [step for step, name, _ in Remembered.got if name == "preview"] == [4, 8, 12, 16]


def _steps(first: int, last: int) -> list[Event]:
    found = []
    for step in range(first + 4, last + 1, 4):
        found += [Event("train", "", step, {"loss": float(step)}), Event("preview", "", step, {"file": "at.png"})]
    return found


def test_one_that_was_left_out_for_a_while_gets_that_too(tmp_path: Path) -> None:
    work(tmp_path, 0, 8, "remembered")
    work(tmp_path, 8, 16)
    work(tmp_path, 16, 24, "remembered")
    assert steps() == [4, 8, 12, 16, 20, 24]


def test_processes_that_do_not_lead_write_nothing(tmp_path: Path) -> None:
    work(tmp_path, 0, 8, "remembered")
    before = (tmp_path / "tracking.json").read_bytes()
    assert Feed((), tmp_path, print, leads=False).begin(TrackedRun("run", tmp_path, "", {})) == []
    assert (tmp_path / "tracking.json").read_bytes() == before
    Feed((), tmp_path, print).begin(TrackedRun("run", tmp_path, "", {}))
    assert (tmp_path / "tracking.json").read_bytes() != before, "the leading one notes what was left out"


def test_tensorboard_is_asked_what_it_has_of_each_curve(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra [track] is not installed")
    kept = []
    for number, values in enumerate(({"a": 1.0, "b": 1.0}, {"a": 2.0})):
        board = TensorBoard()
        kept.append(board.begin(TrackedRun("run", tmp_path, kept[0] if kept else "", {})))
        assert _curves(board) == ({"a": 4, "b": 4} if number else {})
        board.scalars(4 + number, values)
        board.end(0)
    assert kept[0] == kept[1]
    again, another = TensorBoard(), TensorBoard()
    again.begin(TrackedRun("run", tmp_path, kept[0], {}))
    assert _curves(again) == {"a": 5, "b": 4}
    another.begin(TrackedRun("run", tmp_path, "events.out.tfevents.99999999999.here.1.0", {}))
    assert another.held() == {}, "files of an earlier training of the folder do not count"
    older = TensorBoard()
    older.begin(TrackedRun("run", tmp_path, "tensorboard", {}))  # as runs were named by the folder before
    assert _curves(older) == {"a": 5, "b": 4}


def _curves(board: TensorBoard) -> dict[str, int]:
    return {name: step for name, step in board.held().items() if name in ("a", "b")}


class Blind(Remembered):
    """Takes no pictures for a while."""

    kind: Literal["blind"] = "blind"
    blind: ClassVar[bool] = True

    def picture(self, step: int, name: str, file: Path, captions: Sequence[str]) -> None:
        if self.blind:
            raise TimeoutError("the server is asleep")
        super().picture(step, name, file, captions)


class Sulking(Remembered):
    """Takes nothing of an evaluation."""

    kind: Literal["sulking"] = "sulking"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if any(name.startswith("evaluation/") for name in values):
            raise PermissionError("no numbers of that sort")
        super().scalars(step, values)


def test_a_number_that_fails_to_be_sent_moves_no_step_and_is_tried_again(tmp_path: Path) -> None:
    work(tmp_path, 0, 24, "sulking")
    result = Result(Estimate("fid", 12.5, 11.0, 14.0, 100), MeasurementProtocol({"metric": "fid"}))
    store(tmp_path, [result], 8, {}, {})
    assert len(work(tmp_path, 24, 32, "sulking")) == 1
    assert steps() == list(range(4, 25, 4))
    sent = read_sent(tmp_path, ["sulking"], "")["sulking"]
    assert (sent.until, sent.evaluations) == ({"train/loss": 24}, [])
    work(tmp_path, 32, 36, "remembered")
    numbers = [one for one in Remembered.got if one[1].startswith("evaluation/")]
    assert numbers[0] == (8, f"evaluation/fid/{result.protocol.id}", 12.5)


def test_what_is_measured_later_is_sent_once(tmp_path: Path) -> None:
    work(tmp_path, 0, 16, "remembered", code=0)
    (tmp_path / "config.yaml").write_text("track: [{kind: remembered}]\n")
    result = Result(Estimate("fid", 12.5, 11.0, 14.0, 100), MeasurementProtocol({"metric": "fid"}))
    store(tmp_path, [result], 8, {}, {})
    for _ in range(2):
        assert send_evaluations(tmp_path) == []
    name = f"evaluation/fid/{result.protocol.id}"
    assert [one[:2] for one in Remembered.got[4:]] == [(8, name), (8, f"{name}/low"), (8, f"{name}/high")]
    with RunFolder(tmp_path):  # a training at work sends them itself, when it ends
        assert "is in use" in send_evaluations(tmp_path)[0]
    assert send_evaluations(tmp_path / "no run") == []
