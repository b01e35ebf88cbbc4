"""One request, the pictures of it: byte for byte those of `ldm sample`; and what a request may not ask for."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from open_ldm.commands.sample import open_run, sample
from open_ldm.commands.sample_options import SampleOptions
from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.studio.device_queue import CancelledError
from open_ldm.studio.models import Models
from open_ldm.studio.play import Played, PlayRequest, play
from tests.studio.conftest import job


def asked(models: Models, **settings: Any) -> Played:
    request = validate(PlayRequest, {"model": "improved", "prompt": "a red circle", **settings}, source="test")
    return play(models, request, job())


def picture(width: int = 40, height: int = 30) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), (200, 40, 40)).save(content, "PNG")
    return content.getvalue()


def test_the_png_is_the_one_that_ldm_sample_writes(models: Models, improved: Path, tmp_path: Path) -> None:
    controls = {"size": "48x64", "crop": "2,3", "flip": "1", "aspect": "4:3"}
    found = asked(models, controls=controls, seed=5, count=2, steps=4, solver="heun", semantic_scale=3.0, control_scale=1.5)
    options = SampleOptions(
        prompts=("a red circle",),
        controls=controls,
        count=2,
        seed=5,
        steps=4,
        solver="heun",
        semantic_scale=3.0,
        control_scale=1.5,
    )
    written = sample(open_run(improved, "cpu"), options, silent=True).save(tmp_path / "out")
    assert [one.png for one in found.pictures] == [path.read_bytes() for path in written.pictures]
    assert [one.seed for one in found.pictures] == [5, 6]
    assert found.pictures[0].png != found.pictures[1].png


def test_a_start_picture_is_the_one_of_ldm_sample(models: Models, improved: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.png"
    file.write_bytes(picture())
    text = "data:image/png;base64," + base64.b64encode(picture()).decode()
    found = asked(models, start=text, strength=0.5)
    options = SampleOptions(prompts=("a red circle",), count=1, start=file, strength=0.5)
    samples = sample(open_run(improved, "cpu"), options, silent=True)
    written = samples.save(tmp_path / "out")
    assert found.pictures[0].png == written.pictures[0].read_bytes() != asked(models).pictures[0].png
    assert samples.start is not None and samples.start["file"] == "own.png" and samples.start["strength"] == 0.5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "../../etc/passwd"}, "no model"),
        ({"prompt": "a purple elephant"}, "elephant"),
        ({"label": "cat"}, "class"),
        ({"controls": {"zoom": "3"}}, "zoom"),
        ({"controls": {"size": "huge"}}, "size"),
        ({"controls": {"size": "9" * 600}}, "500"),
        ({"count": 17}, "count"),
        ({"steps": 251}, "steps"),
        ({"seed": -1}, "seed"),
        ({"solver": "magic"}, "solver"),
        ({"semantic_scale": float("nan")}, "semantic_scale"),
        ({"start": "/etc/passwd"}, "base64"),
        ({"start": base64.b64encode(b"no picture").decode()}, "not a picture"),
        ({"strength": 0.0}, "strength"),
        ({"strength": 0.5}, "strength has no effect without start"),
        ({"out": "x"}, "out"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(models: Models, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(OpenLdmError, match=said):
        asked(models, **settings)


def test_a_class_model_is_asked_for_a_class(classes: Path) -> None:
    models = Models([classes], "cpu")
    assert models.names == ["classes"]
    name = models.playable()[0].known.facts.class_names[1]
    (one,) = play(models, PlayRequest(model="classes", label=name), job()).pictures
    assert one.shows == name
    with pytest.raises(ConfigError, match="no class"):
        play(models, PlayRequest(model="classes"), job())


def test_a_cancelled_job_ends_at_its_next_step(models: Models) -> None:
    mine = job()
    mine.cancel()
    with pytest.raises(CancelledError):
        play(models, PlayRequest(model="improved", prompt="a red circle"), mine)


def test_the_models_used_last_stay_in_memory(improved: Path, entangled: Path) -> None:
    models = Models([entangled, improved], "cpu", keep=1)
    first = models.load("improved")
    assert models.load("improved") is first
    models.load("entangled")
    assert models.load("improved") is not first
