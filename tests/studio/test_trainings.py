"""Starting, stopping and going on: only what the command line named, by the command that began it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.core.events import EventLog
from open_ldm.run_folder.folder import RunFolder, owner_of
from open_ldm.studio.run_view import plots, run_html
from open_ldm.studio.trainings import Trainings, training_of


def begun(run: Path, *argv: str, end: int | None = None, **facts: int) -> Path:
    run.mkdir()
    with EventLog(run / "events.jsonl") as log:
        log.write("start", samples_seen=0, argv=list(argv), **facts)
        for seen in (4, 8, 12):
            log.write("train", samples_seen=seen, loss=1 / seen, samples_per_second=3.0)
        log.write("held_out", samples_seen=12, mean=0.5, times=[0.2, 0.8], levels=[0.1, 0.9])
        if end is not None:
            log.write("end", samples_seen=12, code=end, reason="all samples seen" if end == 0 else "stop signal")
    return run


class Started:
    """A process that only says what it was asked for."""

    commands: ClassVar[list[list[str]]] = []
    folders: ClassVar[list[Path | None]] = []

    def __init__(self, command: list[str], *, cwd: Path | None, **_: Any) -> None:
        self.commands.append(command)
        self.folders.append(cwd)

    def poll(self) -> None:
        return None


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    Started.commands.clear()
    Started.folders.clear()
    monkeypatch.setattr(subprocess, "Popen", Started)
    return Started.commands


def test_a_run_goes_on_by_the_command_that_began_it(tmp_path: Path, started: list[list[str]]) -> None:
    run = begun(tmp_path / "a", "ldm", "train", "x.yaml", "training.samples=9", "--out", "elsewhere", end=75)
    said = Trainings({"a": run}).start("a")
    assert started[0][1:] == ["-P", "-m", "open_ldm", "train", "x.yaml", "training.samples=9", "--out", str(run)]
    assert said.startswith("started: ldm train x.yaml") and (run / "studio.log").is_file()


def test_a_run_begun_elsewhere_goes_on_from_there_by_its_newest_command(tmp_path: Path, started: list[list[str]]) -> None:
    run = begun(tmp_path / "a", "ldm", "train", "x.yaml", end=75)
    (tmp_path / "work").mkdir()
    with EventLog(run / "events.jsonl") as log:
        log.write("resume", samples_seen=12, argv=["ldm", "train", "x.yaml", "training.samples=99"], cwd=tmp_path / "work")
        log.write("end", samples_seen=12, code=75, reason="stopped")
    Trainings({"a": run}).start("a")
    assert started[0][4:] == ["train", "x.yaml", "training.samples=99", "--out", str(run.resolve())]
    assert Started.folders == [tmp_path / "work"]
    (tmp_path / "work").rmdir()
    with pytest.raises(ConfigError, match="begun in a folder that is not here"):
        Trainings({"a": run}).start("a")


def test_there_is_something_new_of_a_run_when_its_log_grows_or_its_process_begins_or_ends(tmp_path: Path) -> None:
    run = begun(tmp_path / "a", "ldm", "train", "x", end=75)
    trainings = Trainings({"a": run})
    first = trainings.sign(run)
    assert trainings.sign(run) == first
    with RunFolder(run):
        assert trainings.sign(run) != first
    assert trainings.sign(run) == first
    with EventLog(run / "events.jsonl") as log:  # by a process of another machine, say
        log.write("train", samples_seen=16, loss=0.1)
    assert trainings.sign(run) != first


def test_a_recipe_of_the_command_line_is_started_into_its_folder(tmp_path: Path, started: list[list[str]]) -> None:
    training = training_of("demo-improved", (), tmp_path / "runs" / "demo-improved")
    Trainings({}, {"demo-improved": training}).start("demo-improved")
    assert started[0][1:] == ["-P", "-m", "open_ldm", *training.command[1:]] and training.run.is_dir()


def test_a_run_of_several_processes_goes_on_as_it_was_begun(tmp_path: Path, started: list[list[str]]) -> None:
    """Its command says `ldm train` too, whatever started the processes."""
    trainings = Trainings({"a": begun(tmp_path / "a", "ldm", "train", "torchrun.yaml", end=75, processes=4)})
    with pytest.raises(ConfigError, match="begun by 4 processes"):
        trainings.start("a")
    assert not started


@pytest.mark.parametrize(
    ("argv", "end", "said"),
    [
        (("ldm", "train", "x"), 0, "has finished"),
        (("rm", "-rf", "x"), 75, "not begun by ldm train"),
        (("ldm", "demo"), 75, "not begun by ldm train"),
        ((), 75, "not begun by ldm train"),
    ],
)
def test_what_this_page_cannot_repeat_is_refused(
    tmp_path: Path, started: list[list[str]], argv: tuple[str, ...], end: int, said: str
) -> None:
    trainings = Trainings({"a": begun(tmp_path / "a", *argv, end=end)})
    with pytest.raises(ConfigError, match=said):
        trainings.start("a")
    with pytest.raises(ConfigError, match="no run"):
        trainings.start("../b")
    assert not started


def test_the_process_that_holds_the_lock_is_asked_to_stop(
    tmp_path: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings({"a": begun(tmp_path / "a", "ldm", "train", "x", end=75)})
    sent: list[tuple[int, int]] = []
    with pytest.raises(ConfigError, match="no process"):
        trainings.stop("a")
    with RunFolder(tmp_path / "a"):
        assert owner_of(tmp_path / "a") == os.getpid() and trainings.trains(tmp_path / "a")
        with monkeypatch.context() as patched:
            patched.setattr(
                "open_ldm.studio.trainings.os.kill", lambda process, number: number and sent.append((process, number))
            )
            trainings.stop("a")
        with pytest.raises(ConfigError, match="trained already"):
            trainings.start("a")
    assert sent == [(os.getpid(), signal.SIGTERM)] and not started
    assert owner_of(tmp_path / "a") is None


def test_a_lock_of_another_machine_or_of_a_process_that_ended_is_nobody_here(tmp_path: Path) -> None:
    assert owner_of(tmp_path) is None
    for text in ("process 1 on elsewhere", f"process 4194999 on {socket.gethostname()}", "nonsense"):
        (tmp_path / ".lock").write_text(text)
        assert owner_of(tmp_path) is None


def test_a_run_is_shown_with_its_curves_and_events(tmp_path: Path) -> None:
    history = Trainings.history_of(begun(tmp_path / "a", "ldm", "train", "<b>x</b>", end=75))
    assert [plot.title for plot in plots(history, None)] == ["Loss", "Held-out loss by noise level", "Throughput"]
    html = str(run_html(history, is_running=False))
    assert (
        "preempted" in html
        and html.count('class="ldm-plot ldm-wide"') == html.count('class="ldm-plot ldm-narrow"') == 3
        and "<b>x" not in html
        and "stop signal" in html
    )
