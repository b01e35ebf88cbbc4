"""A Space runs from its folder alone: without this installation, and with the network blocked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from open_ldm.commands.publish.space import publish_space, recipe_here
from open_ldm.core.errors import ConfigError
from open_ldm.core.files import write_json
from open_ldm.runs.recipe import load_recipe
from open_ldm.studio.api import sample_content
from open_ldm.studio.models import Models
from open_ldm.studio.play import PlayRequest, play
from tests.commands.test_export import autoencoder, run_of
from tests.studio.conftest import job
from tests.text.tiny_models import clip_folder

__all__ = ["autoencoder"]
BEFORE = """
import socket, sys
from pathlib import Path
sys.path = [one for one in sys.path if not (Path(one or ".") / "open_ldm").is_dir()]
really = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        raise OSError(f"the network is blocked: {address}")
    return really(self, address)
socket.socket.connect = connect
def unknown(host, *others, **more):
    raise OSError(f"the network is blocked: {host}")
socket.getaddrinfo = socket.create_connection = unknown
"""


@contextmanager
def started(space: Path, before: Path) -> Iterator[str]:
    """The address of the Space, started in a process of its own."""
    before.mkdir()
    (before / "sitecustomize.py").write_text(BEFORE)
    environment = {**os.environ, "PYTHONPATH": str(before), "GRADIO_SERVER_PORT": "0", "HF_HOME": str(before / "hf")}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=space, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        address = process.stdout.readline().partition(" at ")[2].strip().rstrip("/")
        assert address, process.stderr.read()[-3000:]
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.timeout(900)  # a process of its own imports everything anew, on a machine that does other things too
def test_it_samples_what_the_run_samples_with_no_network(tmp_path: Path, autoencoder: Path) -> None:
    run = run_of("mmdit", tmp_path, autoencoder, tmp_path)
    survey = {"example_captions": ["a red circle", "private words"], "height_px": {"smallest": 9, "largest": 90}}
    write_json(run / "data.json", {"survey": survey})
    space = publish_space(run, tmp_path / "space")
    assert "private words" not in (space / "model" / "data.json").read_text()
    given = {"prompt": "a red circle", "controls": {"size": "8x8"}, "seed": 5, "count": 2}
    wanted = sample_content(play(Models([run], "cpu"), PlayRequest(model=run.name, **given), job()))
    with started(space, tmp_path / "before") as address:
        with urllib.request.urlopen(address) as page:
            assert "frame-ancestors 'self' https://huggingface.co" in page.headers["content-security-policy"]
            tabs = page.read().decode()
        assert '"Play"' in tabs and '"Compare"' not in tabs and "Start or go on" not in tabs
        asked = urllib.request.Request(f"{address}/api/sample", json.dumps({**given, "model": "tiny"}).encode())
        with urllib.request.urlopen(asked) as answer:
            found = json.loads(answer.read())
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/gradio_api/upload")
    assert [one["png"] for one in found["pictures"]] == [one["png"] for one in wanted["pictures"]]


def test_autoencoder_and_text_models_lie_in_the_folder_and_no_path_is_told(
    tmp_path: Path, autoencoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = clip_folder(tmp_path / "clip", projected=False)
    run = run_of("pixart", tmp_path, autoencoder, text)
    given = {"prompt": "a red circle", "controls": {"size": "8x8"}, "seed": 5}
    wanted = play(Models([run], "cpu"), PlayRequest(model=run.name, **given), job()).pictures
    space = publish_space(run, tmp_path / "space")
    for file in space.rglob("*"):
        assert not file.is_file() or str(tmp_path.parent).encode() not in file.read_bytes(), file
    text.rename(tmp_path / "gone")
    monkeypatch.chdir(space)  # as app.py does
    assert play(Models([space / "model"], "cpu"), PlayRequest(model="model", **given), job()).pictures[0].png == wanted[0].png
    needed = (space / "requirements.txt").read_text()
    assert "transformers" in needed and "diffusers" in needed


def test_how_shards_behind_a_network_are_read_is_left_out_with_their_address() -> None:
    shards = "{kind: shards, path: s3://hospital-x/train, remote: {gigabytes: 500, folder: kept}}"
    for source in (shards, f"{{kind: shrunk, short_side_px: [16, 32], of: {shards}}}"):
        recipe = load_recipe("photos-dit", [f"data.source={source}"])
        assert "gigabytes" in str(recipe.model_dump(mode="json"))
        kept = recipe_here(recipe, has_vae=False, has_text=False).data.source.model_dump(mode="json")
        assert (kept.get("of", kept)["path"], "hospital" in str(kept), "remote" in str(kept)) == ("not exported", False, False)


def test_its_card_and_what_it_needs(tmp_path: Path, autoencoder: Path) -> None:
    space = publish_space(run_of("unet", tmp_path, autoencoder, tmp_path), tmp_path / "space")
    card = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert (
        card["sdk"] == "gradio"
        and card["app_file"] == "app.py"
        and card["title"] == "tiny"
        and card["sdk_version"][0].isdigit()
    )
    needed = (space / "requirements.txt").read_text()
    assert "torch==" in needed and "uvicorn" in needed and "pydantic" in needed
    assert not {"gradio", "transformers", "diffusers", "pytest", "open-ldm"} & {line.split(">")[0] for line in needed.split()}
    assert (space / "LICENSE").is_file() and not (space / "open_ldm" / "demo_models").exists()
    with pytest.raises(ConfigError, match="exists already"):
        publish_space(tmp_path / "unet", space)
