"""`ldm ema` and `ldm speedrun` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from open_ldm.cli.main import main
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from tests.runs.tiny import DENOISERS, tiny_recipe


def ldm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_ema_writes_folders_that_can_be_sampled(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    changes = ["training.samples=32", "training.ema={kind: power, snapshot_every_samples: 8}", "preview.count=1"]
    run = tmp_path / "run"
    train(load_recipe(str(tiny_recipe(tmp_path)), [*DENOISERS["dit"], *changes]), run, silent=True)
    code, out, _ = ldm(capsys, "ema", str(run), "--length", "0.13", "--length", "0.2")
    assert code == 0 and out.count("average of length") == 2 and "of 3 snapshots" in out
    found = tmp_path / "run-ema-0.13"
    code, _, _ = ldm(
        capsys, "sample", str(found), "--prompt", "red", "--count", "1", "--steps", "2", "--out", str(tmp_path / "s")
    )
    assert code == 0 and (tmp_path / "s" / "00000.png").is_file()
    code, out, _ = ldm(capsys, "ema", str(run), "--length", "0.1", "--out", str(tmp_path / "other"), "--json")
    assert code == 0 and json.loads(out)["averages"][0]["error"] < 1e-9  # one of the two that it held
    code, _, err = ldm(capsys, "ema", str(run), "--length", "0.13")
    assert code == 2 and "exists already and is not empty" in err and "fix: choose another --out" in err
    assert (found / "data.json").read_bytes() == (run / "data.json").read_bytes()  # the values of controls that the run saw
    for lengths, said in (
        (("0.15", "7"), "length 7; needed: a share"),
        (("0.15", "0.2"), "exists"),
        (("0.15", "0.15"), "twice"),
    ):
        code, _, err = ldm(capsys, "ema", str(run), "--length", lengths[0], "--length", lengths[1])
        assert code == 2 and said in err and not (tmp_path / "run-ema-0.15").exists()
    code, _, err = ldm(capsys, "ema", str(run), "--length", "0.1", "--length", "0.2", "--out", str(tmp_path / "x"))
    assert code == 2 and "names one folder, and there are 2 lengths" in err


def test_speedrun_says_beforehand_what_it_takes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["speedrun", str(tiny_recipe(tmp_path)), "--points", "4", "--pictures", "80", "--dry-run"]
    code, out, _ = ldm(capsys, *words, "--with", "training.samples=48", "--out", str(tmp_path / "out"))
    assert code == 0 and "base: training " in out and "tuned: training " in out and "in all at most" in out
    assert not (tmp_path / "out").exists()
    code, out, _ = ldm(capsys, *words, "--json", "--out", str(tmp_path / "out"))
    assert code == 0 and json.loads(out)["sides"].keys() == {"base"}
    code, _, err = ldm(capsys, *words, "--name", "base", "--with", "training.samples=48")
    assert code == 2 and "a name of its own" in err
    code, _, err = ldm(capsys, *words, "--table", str(tmp_path / "absent.md"), "--out", str(tmp_path / "out"))
    assert code == 2 and "there is no file" in err and "absent.md for records" in err
