"""Trainings over several devices: processes that stand in for them write down when and with what they ran."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from open_ldm.commands.devices import Training, devices_of, train_over
from open_ldm.core.errors import ConfigError, OpenLdmError, StoppedError

Make = Callable[..., Training]
STAND_IN = """
import os, signal, sys, time
run, seconds, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
if code >= 0:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
begun = time.monotonic()
time.sleep(seconds)
open(run + "/told", "w").write(f"{begun} {time.monotonic()} {os.environ['CUDA_VISIBLE_DEVICES']}")
sys.exit(code)
"""


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A training that takes some seconds and ends with a code."""
    script = tmp_path / "open_ldm.py"
    script.write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)

    def make(name: str, seconds: float = 0.5, code: int = 0) -> Training:
        return Training(tmp_path / name, ("ldm", str(tmp_path / name), str(seconds), str(code)))

    return make


def told(training: Training) -> tuple[float, float, str]:
    begun, ended, *device = (training.run / "told").read_text().split(" ")
    return float(begun), float(ended), device[0]


def test_as_many_run_at_once_as_there_are_devices(training: Make) -> None:
    trainings = [training(name) for name in "abc"]
    train_over(("3", "5"), trainings, lambda text: None)
    a, b, c = map(told, trainings)
    assert a[0] < b[1] and b[0] < a[1], "the first two overlap"
    assert c[0] >= min(a[1], b[1]), "the third waits for a free device"
    assert {a[2], b[2]} == {"3", "5"} and c[2] in ("3", "5")


def test_the_devices_are_those_that_are_seen_here(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    one, other = training("one", 0), training("other", 0)
    train_over(("1",), [one], lambda text: None)
    train_over(("cpu",), [other], lambda text: None)
    assert told(one)[2] == "6" and told(other)[2] == ""
    with pytest.raises(ConfigError, match="there is no device 2; needed: 0 to 1"):
        train_over(("cpu", "2"), [Training(one.run / "never", one.command), one], lambda text: None)
    assert not (one.run / "never").exists()


def test_a_failure_is_named_and_starts_nothing_new(training: Make) -> None:
    bad, beside, after = training("bad", 0, 3), training("beside"), training("after")
    with pytest.raises(OpenLdmError, match=r"training in .*bad failed; fix: read .*training.log"):
        train_over(("0", "1"), [bad, beside, after], lambda text: None)
    assert (beside.run / "told").is_file() and not after.run.exists()


def test_a_stop_signal_reaches_every_training(training: Make) -> None:
    trainings = [training(name, 30) for name in "abc"]
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(StoppedError):
        train_over(("0", "1"), trainings, lambda text: None)
    assert not trainings[2].run.exists() and not (trainings[0].run / "told").exists()


def test_a_training_that_a_stop_signal_meets_before_it_listens_has_not_failed(training: Make) -> None:
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(StoppedError):
        train_over(("0",), [training("deaf", 30, -1)], lambda text: None)


def test_a_device_that_is_not_there_is_not_replaced_by_the_processor(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, needed in ((0, "cpu: there is no CUDA device here"), (1, "0 to 0")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        with pytest.raises(ConfigError, match=f"there is no device 1; needed: {needed}"):
            train_over(("1",), [training("never")], lambda text: None)


@pytest.mark.parametrize(
    ("given", "problem"), [("0,x", "'x' is not a device"), ("1,1", "1 is named twice"), ("", "'' is not a device")]
)
def test_devices_are_numbers_or_cpu(given: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        devices_of(given)
    assert devices_of("0, 2,cpu,cpu") == ("0", "2", "cpu", "cpu")
