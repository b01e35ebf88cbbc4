"""`ldm sample --npz`: one array file, whatever the processes and interruptions."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from open_ldm.commands.array_file import write_npz
from open_ldm.commands.sample import open_run, sample_pixels
from open_ldm.commands.sample_array import plan_of, sample_array
from open_ldm.commands.sample_options import SampleOptions
from open_ldm.core.errors import DataError
from tests.cli.conftest import ldm
from tests.processes import PATIENCE_SECONDS, start_processes

COUNT = 300  # five parts, the last of them short


@pytest.fixture(scope="module")
def whole(class_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that one process sampled without interruption."""
    folder = tmp_path_factory.mktemp("array") / "whole"
    sample_array(open_run(class_run), SampleOptions(count=COUNT, seed=7), out=folder, silent=True)
    return folder


def test_the_array_holds_the_pictures_of_the_run(class_run: Path, whole: Path) -> None:
    assert sorted(file.name for file in whole.iterdir()) == ["samples.json", "samples.npz"]
    with np.load(whole / "samples.npz") as archive:
        assert archive.files == ["arr_0"]
        found = archive["arr_0"]
    run = open_run(class_run)
    plan = plan_of(run, SampleOptions(count=COUNT, seed=7))
    assert found.dtype == np.uint8 and found.shape == (COUNT, *plan.size_px, 3)
    for part in range(plan.parts):
        wanted = sample_pixels(run, plan.requests_of(part), plan.settings).permute(0, 2, 3, 1).numpy()
        start = part * plan.part_pictures
        assert np.array_equal(found[start : start + plan.part_pictures], wanted)
    assert len({picture.tobytes() for picture in found}) == COUNT
    told = json.loads((whole / "samples.json").read_text())
    assert told["sampling"]["solver"] == "euler" and told["labels"] == "random" and told["array"] == list(found.shape)


def test_two_processes_one_of_which_dies_and_a_second_start_give_the_same_bytes(
    class_run: Path, whole: Path, tmp_path: Path, capsys: Any
) -> None:
    arguments = ["sample", str(class_run), "--npz", "--count", str(COUNT), "--seed", "7", "--out", str(tmp_path / "out")]
    first, died = start_processes("tests.cli.array_worker", ["1", "1", *arguments], 2)
    assert died.wait(PATIENCE_SECONDS) == 9
    first.kill()  # as torchrun does when one has died
    first.wait(PATIENCE_SECONDS)
    parts = {file.name for file in (tmp_path / "out" / "parts").iterdir() if file.suffix == ".npy"}
    assert "000001.npy" in parts and "000003.npy" not in parts  # the second process had one of its two parts
    assert not (tmp_path / "out" / "samples.npz").exists()
    kept = {name: (tmp_path / "out" / "parts" / name).stat().st_mtime_ns for name in parts}
    code, out, _ = ldm(capsys, *arguments)
    assert code == 0 and "300 pictures" in out and "drawn at random" in out
    assert kept
    assert (tmp_path / "out" / "samples.npz").read_bytes() == (whole / "samples.npz").read_bytes()
    assert not (tmp_path / "out" / "parts").exists()


def test_parts_that_are_there_are_not_sampled_again(
    class_run: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_ldm.commands import sample_array as module

    run, options, sampled = open_run(class_run), SampleOptions(count=COUNT, seed=7), []

    def counted(*given: Any, **named: Any) -> Any:
        if len(sampled) == 2:
            raise KeyboardInterrupt
        sampled.append(given[1][0].seed)
        return sample_pixels(*given, **named)

    monkeypatch.setattr(module, "sample_pixels", counted)
    with pytest.raises(KeyboardInterrupt):
        sample_array(run, options, out=tmp_path, silent=True)
    assert sampled == [7, 7 + 64]
    monkeypatch.setattr(
        module, "sample_pixels", lambda *given, **named: sampled.append(given[1][0].seed) or sample_pixels(*given, **named)
    )
    sample_array(run, options, out=tmp_path, silent=True)
    assert sampled == [7 + 64 * part for part in range(5)]
    assert (tmp_path / "samples.npz").read_bytes() == (whole / "samples.npz").read_bytes()
    sample_array(run, options, out=tmp_path, silent=True)
    assert len(sampled) == 5


def test_labels_in_turn_and_at_random(class_run: Path) -> None:
    run = open_run(class_run)
    names = run.known.facts.class_names
    equal = plan_of(run, SampleOptions(count=1000), "equal")
    counts = Counter(equal.request(i).shows for i in range(1000))
    assert set(counts) == set(names) and max(counts.values()) - min(counts.values()) <= 1
    drawn = plan_of(run, SampleOptions(count=1000))
    shown = [drawn.request(i).shows for i in range(1000)]
    counts = Counter(shown)
    even = 1000 / len(names)
    assert set(counts) == set(names) and 1 < max(abs(count - even) for count in counts.values()) < 5 * even**0.5
    later = plan_of(run, SampleOptions(count=10, seed=500))
    assert [later.request(i).shows for i in range(10)] == shown[500:510]
    few = plan_of(run, SampleOptions(count=9, classes=(names[1], "0")), "equal")
    assert [few.request(i).shows for i in range(3)] == [names[1], names[0], names[1]]


def test_captions_of_a_file_are_taken_in_turn(text_run: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "captions.txt").write_text("a red circle\na blue square\n# nothing\na green circle\n")
    arguments = ("sample", text_run, "--npz", "--prompts", tmp_path / "captions.txt", "size=16x16", "--json")
    code, out, _ = ldm(capsys, *arguments)
    written = json.loads(out)
    assert code == 0 and written["shape"] == [3, 16, 16, 3] and written["labels"].endswith("taken in turn")
    assert Path(written["folder"]).parent == text_run / "drawn"
    told = json.loads((Path(written["folder"]) / "samples.json").read_text())
    assert told["shows"] == ["a red circle", "a blue square", "a green circle"] and told["controls"] == {"size": "16x16"}
    code, again, _ = ldm(capsys, *arguments)
    assert code == 0 and json.loads(again) == written


def test_what_does_not_go_together(class_run: Path, text_run: Path, whole: Path, capsys: Any) -> None:
    before = (whole / "samples.npz").read_bytes()
    for options, said in (
        ((class_run, "--npz", "--count", COUNT, "--seed", 8, "--out", whole), "made with another seed"),
        (
            (class_run, "--npz", "--count", COUNT, "--seed", 7, "--steps", 2, "--out", whole),
            "with other sampling settings",
        ),
        ((text_run, "--npz"), "--prompts FILE"),
        ((text_run, "--npz", "--sweep", "a {red,blue} circle"), "--sweep makes a table"),
        ((class_run, "--labels", "equal"), "no effect without --npz"),
        ((class_run, "--npz", "--class", "nothing"), "knows no class"),
    ):
        code, _, error = ldm(capsys, "sample", *options)
        assert code != 0 and said in error and error.count("\n") == 1, options
    assert (whole / "samples.npz").read_bytes() == before


def test_other_weights_are_told(class_run: Path, whole: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(whole, tmp_path / "other")
    told = json.loads((tmp_path / "other" / "samples.json").read_text())
    (tmp_path / "other" / "samples.json").write_text(json.dumps({**told, "weights": "0"}))
    code, _, error = ldm(capsys, "sample", class_run, "--npz", "--count", COUNT, "--seed", 7, "--out", tmp_path / "other")
    assert code == 2 and "other holds samples made with other weights; needed:" in error


def test_a_large_array_is_streamed(tmp_path: Path) -> None:
    part = (64, 64, 64, 3)  # 786 kB

    def parts(count: int) -> Iterator[NDArray[np.uint8]]:
        for number in range(count):
            yield np.full(part, number, dtype=np.uint8)

    tracemalloc.start()
    write_npz(tmp_path / "a.npz", (64 * 40, *part[1:]), parts(40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 64 * 64 * 64 * 3  # of 31 MB
    found = np.load(tmp_path / "a.npz")["arr_0"]
    assert found.shape == (2560, 64, 64, 3) and (found[::64, 0, 0, 0] == np.arange(40)).all()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED and archive.testzip() is None
    with pytest.raises(DataError, match="hold 64 pictures"):
        write_npz(tmp_path / "b.npz", (65, *part[1:]), parts(1))
    with pytest.raises(DataError, match="a part is"):
        write_npz(tmp_path / "b.npz", (64, 32, 64, 3), parts(1))
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_a_run_folder_takes_no_samples(capsys: Any, text_run: Path) -> None:
    before = {path.name for path in text_run.iterdir()}
    for more in ((), ("--npz", "--count", 2)):
        code, _, err = ldm(capsys, "sample", text_run, "--prompt", "a red circle", *more, "--steps", 1, "--out", text_run)
        assert code == 2 and f"{text_run} is the folder of a training run; needed: a folder of its own for the samples" in err
    assert {path.name for path in text_run.iterdir()} == before


def test_an_array_is_surveyed_and_not_trained_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, arr_0=np.zeros((12, 16, 20, 3), dtype=np.uint8))
    code, out, _ = ldm(capsys, "data", "survey", path, "--decode", "--json")
    found = json.loads(out)
    assert code == 0 and found["pictures"] == found["decoded"] == 12 and set(found["width_px"].values()) == {20}, found
    code, _, err = ldm(capsys, "data", "survey", path, "data.holdout.seed=1")
    assert code == 2 and "have no effect on the array" in err
    code, _, err = ldm(capsys, "train", path)
    assert code == 2 and "ldm evaluate" in err and "no training" in err
