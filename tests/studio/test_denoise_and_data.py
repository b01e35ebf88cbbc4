"""Every step of a picture, and pictures as the trainer sees them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open_ldm.core.errors import ConfigError
from open_ldm.data.sample import TransformRecord
from open_ldm.studio.denoise import chosen_steps, denoise
from open_ldm.studio.models import Models
from open_ldm.studio.pages.denoise_page import controls_hint, controls_in, denoised_html
from open_ldm.studio.play import PlayRequest, play
from open_ldm.studio.training_pictures import TrainingPictures, bad_files, boxed
from open_ldm.studio.widgets import widgets_of
from tests.studio.conftest import job


def test_every_step_has_its_estimate_and_the_last_one_is_the_picture(models: Models) -> None:
    request = PlayRequest(model="improved", prompt="a red circle", steps=4, solver="euler", seed=2)
    found = denoise(models, request, job())
    assert [frame.step for frame in found.frames] == [1, 2, 3, 4]
    assert [frame.t for frame in found.frames] == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert found.final == play(models, request, job()).pictures[0].png == found.frames[-1].png != found.frames[0].png
    gates, guidance, noise = found.plots
    assert [series.name for series in gates.series] == ["size", "crop", "flip", "aspect"]
    size, crop = gates.series[:2]
    assert size.y[0] == 0 and size.y[-1] > size.y[1] and set(crop.y) == {1.0}
    assert set(guidance.series[0].y) == {2.0} and list(noise.series[0].y) == [frame.t for frame in found.frames]
    html = str(denoised_html(found))
    assert html.count('class="ldm-frame"') == 4 and 'max="3"' in html


def test_of_many_steps_some_are_kept_with_both_ends() -> None:
    assert chosen_steps(7) == set(range(7))
    kept = chosen_steps(250)
    assert len(kept) == 60 and {0, 249} <= kept


def test_the_hint_for_controls_names_all_of_a_model_with_values_that_it_takes(models: Models) -> None:
    facts = models.facts("improved")
    assert facts is not None
    _, found, pairs = controls_hint(facts).partition("such as ")
    controls = controls_in(pairs)
    assert found and list(controls) == [widget.option for widget in widgets_of(facts)] and len(controls) == 4
    denoise(models, PlayRequest(model="improved", prompt="a red circle", controls=controls, steps=1), job())


def test_controls_are_read_as_on_the_command_line() -> None:
    assert controls_in("size=8x8  flip=1 turn=") == {"size": "8x8", "flip": "1", "turn": ""}
    with pytest.raises(ConfigError, match=r"'flip' is no control; needed: NAME=VALUE"):
        controls_in("size=8x8 flip")


def test_views_are_those_of_training(models: Models) -> None:
    pictures = TrainingPictures(models)
    one, two = pictures.seen("improved", 0, 2, job())
    assert one.id != two.id and one.psnr_db > 40
    assert one.facts["caption"] and one.facts["mirrored"] in ("yes", "no")
    assert Image.open(io.BytesIO(one.view)).size == (16, 16)
    assert pictures.seen("improved", 1, 1, job())[0].view == two.view


def test_the_box_is_where_the_view_was_cut() -> None:
    record = TransformRecord(64, 128, 32, 64, 0, 32, 32, 32, flip=False)
    grey = Image.new("RGB", (128, 64), (128, 128, 128))
    drawn = np.asarray(Image.open(io.BytesIO(boxed(grey, record))))
    red = (drawn == (230, 60, 30)).all(axis=2)
    columns = np.flatnonzero(red.any(axis=0))
    assert drawn.shape == (144, 288, 3) and columns.min() == pytest.approx(144, abs=3) and columns.max() >= 285


def test_the_nearest_training_picture_of_a_copy_is_itself(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = TrainingPictures(models)
    request = PlayRequest(model="improved", prompt="a red circle")
    found = pictures.nearest(request, 3, job())
    assert found.looked_at == 50 and len(found.neighbours) == 3
    distances = [one.distance for one in found.neighbours]
    assert distances == sorted(distances) and distances[0] > 0
    copied = play(models, request, job())
    forged = type(copied)(copied.model, (type(copied.pictures[0])(found.neighbours[1].png, 0, None, {}),), "", 0, 0.0)
    monkeypatch.setattr("open_ldm.studio.training_pictures.play", lambda *_: forged)
    again = pictures.nearest(request, 1, job())
    assert again.neighbours[0].id == found.neighbours[1].id and again.neighbours[0].distance < 1e-6


def test_bad_pictures_are_listed_from_what_the_run_wrote(tmp_path: Path) -> None:
    assert bad_files(tmp_path) == []
    (tmp_path / "health.json").write_text(json.dumps({"pictures": 9, "bad": {"not a picture": ["c.jpg"]}}))
    (tmp_path / "data.json").write_text(json.dumps({"survey": {"bad": [{"id": "d.jpg", "reason": "empty file"}]}}))
    assert bad_files(tmp_path) == [("not a picture", "c.jpg"), ("empty file", "d.jpg")]


def test_only_runs_of_the_command_line_are_looked_at(models: Models) -> None:
    with pytest.raises(ConfigError, match="no model"):
        TrainingPictures(models).seen("../improved", 0, 1, job())
