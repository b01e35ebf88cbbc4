"""Training, sampling and measuring from Python."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import open_ldm as ldm
from open_ldm.commands import samples as samples_module
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.runs.recorder import RunRecorder
from open_ldm.training.loop import Report
from tests.cli.conftest import ldm as command
from tests.interop import layouts
from tests.runs.tiny import TINY, losses

CAPTION = "a large red circle on the left"


def train(out: Path, *overrides: Any, samples: int = 16) -> ldm.Run:
    return ldm.train(TINY, {"training": {"samples": samples}}, *overrides, out=out, progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ldm.Run:
    return train(tmp_path_factory.mktemp("run") / "a", "training.checkpoint_every_samples=8")


def test_a_run_tells_where_it_is_and_how_it_went(run: ldm.Run) -> None:
    assert run.samples_seen == 16 and run.state == "finished: all samples seen"
    assert run.recipe.training.samples == 16 and run.recipe.training.checkpoint_every_samples == 8
    assert list(zip(run.history.samples_seen, run.history.loss, strict=True)) == losses(run.path)
    assert len(run.history.loss) == len(run.history.learning_rate) == 4
    assert run.report.stat().st_size > 1000
    assert repr(run) == f"<Run {run.path}: 16 samples seen, finished: all samples seen>"


def test_a_run_folder_may_be_called_like_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "samples-of-shapes")
    assert run.folder == run.path and run.samples_seen == 16
    saved = run.sample(CAPTION, count=1, steps=1).save()
    code, _, error = command(capsys, "sample", run.path, "--prompt", CAPTION, "--count", 1, "--steps", 1)
    assert code == 0, error
    assert saved.folder == run.path / "drawn" / "0001" and (run.path / "drawn" / "0002" / "grid.png").is_file()
    checkpoint = ldm.load_run(run.path / "checkpoints" / "samples-000000000016")
    assert checkpoint.folder == run.path and checkpoint.samples_seen == 16
    assert checkpoint.sample(CAPTION, count=1, steps=1).save().folder == run.path / "drawn" / "0003"


def test_samples_saved_at_once_get_a_folder_each(run: ldm.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (run.sample(CAPTION, count=1, seed=seed, steps=1) for seed in (1, 2))
    write, make = samples_module.write_json, Path.mkdir
    found, raced = [], []

    def write_late(*given: Any) -> None:
        monkeypatch.setattr(samples_module, "write_json", write)
        found.append(other.save())
        write(*given)

    def make_late(path: Path, *given: Any, **named: Any) -> None:
        if path.name.isdecimal() and not raced:
            raced.append(path)
            make(path)
        make(path, *given, **named)

    monkeypatch.setattr(samples_module, "write_json", write_late)
    found.append(one.save())
    monkeypatch.setattr(Path, "mkdir", make_late)
    found.append(one.save())
    assert raced and len({*raced, *(each.folder for each in found)}) == 4
    seeds = [json.loads((each.folder / "samples.json").read_text())["pictures"][0]["seed"] for each in found]
    assert seeds == [2, 1, 1]
    assert run.sample(CAPTION, count=1, steps=1).save(raced[0]).folder == raced[0]  # one that was left empty is in nobody's way


def test_samples_are_what_the_command_writes(run: ldm.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = run.sample(CAPTION, count=2, seed=7, steps=2, solver="ddim", semantic_scale=3, size="64x48", flip=True)
    samples.save(tmp_path / "python")
    options = ["--prompt", CAPTION, "--count", 2, "--seed", 7, "--steps", 2, "--solver", "ddim", "--semantic-scale", 3]
    code, _, _ = command(capsys, "sample", run.path, "size=64x48", "flip=1", *options, "--out", tmp_path / "command")
    assert code == 0
    written = [sorted((path.name, path.read_bytes()) for path in (tmp_path / each).iterdir()) for each in ("python", "command")]
    assert written[0] == written[1] and len(written[0]) == 4

    assert samples.pixels.shape == (2, 3, 16, 16) and samples.pixels.dtype == torch.uint8
    assert [(request.seed, request.shows) for request in samples.requests] == [(7, CAPTION), (8, CAPTION)]
    assert [picture.size for picture in samples.images()] == [(16, 16)] * 2 and len(samples) == 2
    assert Image.open(io.BytesIO(samples._repr_png_())).size == samples.grid().size
    options_of_both: dict[str, Any] = {"steps": 2, "solver": "ddim", "semantic_scale": 3, "size": "64x48", "flip": 1}
    assert torch.equal(run.sample([CAPTION], count=1, seed=8, **options_of_both).pixels, samples.pixels[1:])


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_pictures_at_once_change_no_picture(run: ldm.Run, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"count": 7, "seed": 3, "steps": 2, "progress": False}
    whole = run.sample(CAPTION, **options)
    sizes = []
    predict = DiffusionModel.predict

    def counted(model: DiffusionModel, x_t: torch.Tensor, *given: Any) -> Any:
        sizes.append(len(x_t))
        return predict(model, x_t, *given)

    monkeypatch.setattr(DiffusionModel, "predict", counted)
    parts = run.sample(CAPTION, batch_size=batch_size, **options)
    assert set(sizes) <= {branches * pictures for branches in (1, 2) for pictures in (batch_size, 7 % batch_size)}
    assert [request.seed for request in parts.requests] == [request.seed for request in whole.requests]
    # Products of other shapes may round otherwise: by less than a level of 255, which may still be the next one.
    assert (parts.pixels.int() - whole.pixels.int()).abs().max() <= 1 and whole.pixels.float().std() > 1


def test_a_guide_is_that_of_the_command(run: ldm.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = run.sample(CAPTION, count=1, steps=2, semantic_scale=3, guide=run.path, guide_scale=2, rescale=0.5)
    samples.save(tmp_path / "python")
    options = ["--prompt", CAPTION, "--count", 1, "--steps", 2, "--semantic-scale", 3, "--guide", run.path, "--guide-scale", 2]
    code, _, _ = command(capsys, "sample", run.path, *options, "--rescale", 0.5, "--out", tmp_path / "command")
    assert code == 0
    written = [sorted((path.name, path.read_bytes()) for path in (tmp_path / each).iterdir()) for each in ("python", "command")]
    assert written[0] == written[1]
    assert b'"rescale": 0.5' in dict(written[0])["samples.json"]


def test_files_of_other_things_stay(run: ldm.Run, tmp_path: Path) -> None:
    (tmp_path / "00000.png").write_bytes(b"mine")
    samples = run.sample(CAPTION, count=1, steps=1, progress=False)
    with pytest.raises(ldm.OpenLdmError, match=r"no earlier sampling wrote, such as 00000.png;.* choose another folder"):
        samples.save(tmp_path)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("00000.png", b"mine")]
    samples.save(samples.save(tmp_path / "out").folder)


def test_a_checkpoint_inside_a_run_is_a_run_too(run: ldm.Run) -> None:
    early = ldm.load_run(run.path / "checkpoints" / "samples-000000000008")
    assert early.samples_seen == 8 and early.recipe == run.recipe and early.report == run.report
    samples = [each.sample(CAPTION, count=1, steps=1, progress=False) for each in (early, ldm.load_run(str(run.path)))]
    assert [each.samples_seen for each in samples] == [8, 16]
    assert samples[0].save().folder.parent == run.path / "drawn"


def test_more_training_is_seen_by_an_older_object(tmp_path: Path) -> None:
    run = train(tmp_path / "a", samples=8)
    assert run.sample(CAPTION, count=1, steps=1).samples_seen == 8
    assert train(tmp_path / "a", samples=16).samples_seen == 16
    assert run.samples_seen == 16 and run.sample(CAPTION, count=1, steps=1).samples_seen == 16
    assert len(run.history.loss) == 4


def interrupted_at(monkeypatch: pytest.MonkeyPatch, at: int, times: int) -> None:
    """Send SIGINT `times` times when a run reports `at` samples; a process that ends is a failure."""
    report = RunRecorder._report

    def reported(self: RunRecorder, said: Report) -> None:
        report(self, said)
        if said.samples_seen == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    def ended(code: int) -> None:
        raise AssertionError(f"the process would have ended with {code}")

    monkeypatch.setattr(RunRecorder, "_report", reported)
    monkeypatch.setattr(os, "_exit", ended)


def test_an_interrupt_saves_and_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        interrupted_at(patched, at=8, times=1)
        run = train(tmp_path / "a", samples=24)
    assert run.samples_seen == 12 and run.state == "preempted: stopped by SIGINT and saved"
    assert "stopped by SIGINT and saved at 12 samples; the same call goes on from there" in capsys.readouterr().err
    assert run.sample(CAPTION, count=1, steps=1).samples_seen == 12
    run = train(tmp_path / "a", samples=24)
    assert run.samples_seen == 24 and run.state == "finished: all samples seen"
    whole = train(tmp_path / "whole", samples=24)
    assert run.history.loss == whole.history.loss


def test_a_second_interrupt_leaves_the_kernel_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_at(monkeypatch, at=8, times=2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "exit.json").read_text())["code"] == 130


def test_stages_count_together(tmp_path: Path) -> None:
    stages = [{"name": name, "training": {"samples": 8}} for name in ("first", "second")]
    run = ldm.train(TINY, {"stages": stages}, out=tmp_path / "a", progress=False)
    assert run.samples_seen == 16 and run.state == "finished: all stages done"
    assert run.history.samples_seen == [4, 8, 12, 16] and len(run.recipe.stages) == 2
    assert run.sample(CAPTION, count=1, steps=1).pixels.shape == (1, 3, 16, 16) and run.report.is_file()


def test_a_transfer_starts_from_the_other_run(run: ldm.Run, tmp_path: Path) -> None:
    other = ldm.transfer(
        run, TINY, "training.samples=8", {"data.transform.size_px": 32}, raw=True, out=tmp_path / "b", progress=False
    )
    told = json.loads((other.path / "transfer.json").read_text())
    assert told["source"]["path"] == str(run.path) and told["source"]["weights"] == "raw"
    assert other.samples_seen == 8 and other.recipe.data.transform.size_px == 32


def test_an_evaluation_is_a_table_and_plain_data(run: ldm.Run, tmp_path: Path) -> None:
    options: dict[str, Any] = {"metrics": "kid", "extractors": ["random"], "n": 12, "cache": tmp_path, "progress": False}
    found = run.evaluate(settings={"metrics.kid.subset_size": 10, "sampling.steps": 1}, out=tmp_path / "out", **options)
    (result,) = found.results
    assert result.estimate.name == "kid" and found.to_json()["results"][0]["value"] == result.estimate.value
    assert str(found).splitlines()[0].split() == ["metric", "value", "interval", "n", "extractor", "protocol"]
    assert found._repr_html_().startswith("<pre>metric")
    again = ldm.evaluate(run.path, TINY, settings=["metrics.kid.subset_size=10", "sampling.steps=1"], **options)
    assert again.results[0].estimate.value == result.estimate.value and again.file == run.path / "evaluation.json"


def test_a_survey_looks_at_folders_recipes_and_runs(run: ldm.Run, tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (20 + number, 30)).save(tmp_path / f"{number}.png")
    assert ldm.survey(tmp_path).width_px.largest == 22
    assert ldm.survey("photos-dit", {"data.source.path": tmp_path}).pictures == 3
    assert ldm.survey(TINY, "data.source.length=7").pictures == 7 and ldm.survey(run).pictures == 50
    assert "short_side_px" in str(ldm.survey(tmp_path)) and "<pre>3 pictures" in ldm.survey(tmp_path)._repr_html_()


def test_encode_once_and_train_from_it(tmp_path: Path) -> None:
    overrides = ("data.views=1", "data.source.length=12")
    made = ldm.encode(TINY, *overrides, out=tmp_path / "cache", progress=False)
    assert made.path == tmp_path / "cache" and made.pictures == 12 and str(made).startswith("12 pictures × 1 view in")
    assert ldm.encode(TINY, *overrides, out=tmp_path / "cache", progress=False).files_written == 0
    run = train(tmp_path / "a", *overrides, {"cache.path": made.path}, samples=8)
    assert run.samples_seen == 8


def test_imported_weights_are_a_run(tmp_path: Path) -> None:
    state = layouts.original_dit(2, 32, 3, 2, 5) | {"pos_embed": torch.randn(1, 16, 32)}
    save_file(state, tmp_path / "dit.safetensors")
    settings = {"autoencoder": {"kind": "identity", "channels": 3}, "latent_stats": {"scale": 1.0}}
    run = ldm.import_weights(
        "dit-xl-2", tmp_path / "dit.safetensors", settings, "denoiser.heads=2", "data.transform.size_px=8", out=tmp_path / "run"
    )
    assert run.samples_seen == 0 and run.history.loss == []
    two = run.sample(classes=[0, 3], count=1, steps=1)
    assert two.pixels.shape == (2, 3, 8, 8)
    names = np.array([request.shows for request in two.requests])
    for asked in ({"classes": names}, {"class_index": np.array([0, 3])}, {"class_index": [np.int64(0), torch.tensor(3)]}):
        assert torch.equal(run.sample(**asked, count=np.int64(1), steps=1).pixels, two.pixels)  # type: ignore[arg-type]
