"""One request, the pictures of it: byte for byte those of `ldm sample`; and what a request may not ask for."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from open_ldm.commands.sample import open_run, sample
from open_ldm.commands.sample_options import SampleOptions
from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.studio.api import request_of, runs_content
from open_ldm.studio.device_queue import CancelledError, DeviceQueue
from open_ldm.studio.models import Models
from open_ldm.studio.pages.play_page import ModelForm, component_of
from open_ldm.studio.play import Played, PlayRequest, play
from open_ldm.studio.widgets import widgets_of
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


def test_a_class_may_be_asked_for_by_its_index(classes: Path) -> None:
    models = Models([classes], "cpu")
    names = models.playable()[0].known.facts.class_names
    assert [one.shows for one in play(models, request_of(b'{"model": "classes", "label": 0}'), job()).pictures] == [names[0]]
    for label, said in (("true", "label=True; needed: a valid string"), ("99", "no class '99'"), ("1.5", "label=1.5")):
        with pytest.raises(ConfigError, match=said) as caught:
            play(models, request_of(f'{{"model": "classes", "label": {label}}}'.encode()), job())
        assert "YAML" not in str(caught.value)


def test_an_empty_control_is_left_open_as_in_ldm_sample_and_null_is_the_default(columns: Path, tmp_path: Path) -> None:
    models = Models([columns], "cpu")
    found = {value: play(models, PlayRequest(model="columns", controls={"stain": value}), job()) for value in ("", None, "HE")}
    for value, one in found.items():
        options = SampleOptions(controls={} if value is None else {"stain": value}, count=1)
        written = sample(open_run(columns, "cpu"), options, silent=True).save(tmp_path / str(value))
        assert one.pictures[0].png == written.pictures[0].read_bytes()
    assert len({found[""].pictures[0].png, found[None].pictures[0].png}) == 2
    assert found[""].pictures[0].controls == {"stain": ""} and found[None].pictures[0].controls == {}


def test_what_the_api_lists_as_defaults_can_be_asked_for(columns: Path) -> None:
    models = Models([columns], "cpu")
    (listed,) = runs_content(models, DeviceQueue())["runs"]
    defaults = {option: parts[0]["default"] for option, parts in listed["controls"].items()}
    assert defaults["flip"] is False and isinstance(defaults["magnification"], float)
    asked = request_of(json.dumps({"model": "columns", "controls": defaults}).encode())
    plain = play(models, PlayRequest(model="columns"), job())
    assert play(models, asked, job()).pictures[0].png == plain.pictures[0].png
    mirrored = request_of(b'{"model": "columns", "controls": {"flip": true, "magnification": 20, "stain": "2e5"}}')
    assert mirrored.options().controls == {"flip": "1", "magnification": "20", "stain": "2e5"}
    with pytest.raises(ConfigError) as caught:
        request_of(b'{"model": "columns", "controls": {"flip": [1]}, "prompt": 5}')
    assert "controls.flip=[1]; needed" in str(caught.value) and "YAML" not in str(caught.value)


def test_the_form_asks_for_what_is_left_open(columns: Path) -> None:
    gr = pytest.importorskip("gradio")
    facts = Models([columns], "cpu").facts("columns")
    widgets = widgets_of(facts)
    components = tuple(tuple(component_of(gr, part) for part in widget.parts) for widget in widgets)
    form = ModelForm(facts, None, None, (), widgets, components)
    settings = ["", 1.0, 1.0, 4, "euler"]
    usual = [one.value for parts in components for one in parts]
    assert form.asked([*settings, *usual])["controls"] == {"magnification": "21", "stain": "HE", "flip": "0"}
    assert components[1][0].choices == [("HE", "HE"), ("PAS", "PAS"), ("left open", "")]
    assert form.asked([*settings, 22.0, True, "", False])["controls"] == {"magnification": "", "stain": "", "flip": "0"}


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
