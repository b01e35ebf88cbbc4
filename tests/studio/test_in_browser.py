"""The studio in headless Chromium: every page is played, every control changed, a job cancelled, nothing asked elsewhere.

With LDM_AXE=axe.min.js (npm pack axe-core) every page is also checked for accessibility, those of results once they show some.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from open_ldm.core.events import read_events
from open_ldm.run_folder.folder import owner_of
from open_ldm.run_folder.history import read_history
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from tests.browser import Browser, Opened, Theme, browser, find_chromium
from tests.runs.tiny import TINY

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
PAGES = ("play", "controls", "runs", "compare", "data", "denoise")
SMALL = ["denoiser.depth=2", "denoiser.width=64", "denoiser.heads=2", "training.samples=640", "data.source.length=400"]
_SECONDS = 120.0
_PICTURE = "[...document.querySelectorAll('.ldm-figure img')].some(one => one.offsetParent)"
_BUTTON = "[...document.querySelectorAll('button:not([role=tab])')].find(b => b.textContent.trim() === {} && b.offsetParent)"
_CHOSEN = (
    "[...document.querySelectorAll('[role=tab][aria-selected=true]')].some(t => t.textContent.trim().toLowerCase() === {})"
)
_BOX = "[...document.querySelectorAll('input[type=checkbox]')].filter(one => one.offsetParent)[{}]"


@dataclass
class Studio:
    """A studio that runs, the browser that looks at it, and its runs."""

    address: str
    tab: Browser
    runs: Path

    def open(self, page: str, width: int = 1280, theme: Theme = "light", query: str = "") -> Opened:
        opened = self.tab.open(f"{self.address}/?tab={page}{query}", width, theme=theme)
        self.wait(_CHOSEN.format(json.dumps(page)))
        return opened

    def require_accessible(self, width: int, *themes: Theme) -> None:
        """Let axe look at the page as it is, in each theme; without LDM_AXE nobody looks."""
        if (axe := os.environ.get("LDM_AXE")) is None:
            return
        self.tab.evaluate(Path(axe).read_text(encoding="utf-8") + "; true")
        for theme in themes:
            self.tab.show(width, theme=theme)
            self.wait(f"document.body.classList.contains('dark') === {json.dumps(theme == 'dark')}")
            # Colours fade from one theme to the other.
            self.wait("document.getAnimations().every(each => each.playState !== 'running')")
            found = self.tab.evaluate("axe.run(document).then(found => JSON.stringify(found.violations))")
            serious = [each for each in json.loads(found) if each["impact"] in ("serious", "critical")]
            told = [(each["id"], [node["html"][:120] for node in each["nodes"][:3]]) for each in serious]
            assert not serious, (theme, width, told)

    def wait(self, expression: str) -> Any:
        limit = time.monotonic() + _SECONDS
        while not (found := self.tab.evaluate(f"!!({expression})")):
            assert time.monotonic() < limit, f"this did not come: {expression}"
            time.sleep(0.1)
        return found

    def click(self, text: str) -> None:
        button = _BUTTON.format(json.dumps(text))
        self.wait(button)
        self.tab.evaluate(f"({button}).click()")

    def fill(self, field: str, value: str) -> None:
        """Type into a field as a user does, and leave it."""
        self.wait(field)
        self.tab.evaluate(
            f"""(() => {{ const field = {field};
            const kind = field.tagName === 'TEXTAREA' ? HTMLTextAreaElement : HTMLInputElement;
            Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(field, {json.dumps(value)});
            for (const name of ['input', 'change', 'blur']) field.dispatchEvent(new Event(name, {{bubbles: true}})); }})()"""
        )

    def pictures(self) -> list[bytes]:
        """The PNG files of the pictures that are seen."""
        seen = "[...document.querySelectorAll('img.ldm-sample')].filter(one => one.offsetParent).map(one => one.src)"
        return [base64.b64decode(uri.partition(",")[2]) for uri in self.tab.evaluate(seen)]

    def jobs(self) -> int:
        with urllib.request.urlopen(f"{self.address}/api/runs", timeout=60) as answer:
            return int(json.loads(answer.read())["jobs"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's two models, smaller and trained for less."""
    folder = tmp_path_factory.mktemp("demo")
    for name in ("entangled", "improved"):
        recipe = load_recipe(f"demo-{name}", SMALL)
        assert train(recipe, folder / name, silent=True, command=["ldm", "train", f"demo-{name}"]).code == 0
    return folder


def tiny_recipe(folder: Path, samples: int) -> None:
    training = {**TINY["training"], "samples": samples}
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "training": training}))


@pytest.fixture(scope="module")
def studio(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    tiny_recipe(runs, samples=1_000_000)
    command = [sys.executable, "-m", "open_ldm", "studio", "entangled", "improved", "--recipe", "tiny.yaml", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=runs)
    assert process.stdout is not None
    address = process.stdout.readline().partition(" at ")[2].partition("/ ")[0]
    try:
        with browser(program, tmp_path_factory.mktemp("chromium") / "profile") as tab:
            yield Studio(address, tab, runs)
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_the_picture_of_seed_0_is_the_one_of_ldm_sample(studio: Studio, tmp_path: Path) -> None:
    studio.open("play")
    studio.click("Sample")
    studio.wait(_PICTURE)
    prompt = studio.tab.evaluate("document.querySelector('.ldm-prompt textarea, .ldm-prompt input').value")
    command = ["ldm", "sample", str(studio.runs / "entangled"), "--prompt", prompt, "--out", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-m", "open_ldm", *command[1:]], check=True, capture_output=True)
    assert studio.pictures() == [(tmp_path / "out" / f"0000{index}.png").read_bytes() for index in range(4)]
    studio.click("Same seed, other run")
    studio.wait("document.querySelectorAll('#ldm-play-other img.ldm-sample').length === 4")
    assert len(set(studio.pictures())) > 4


def test_every_control_of_play_changes_the_address_and_comes_back_with_it(studio: Studio) -> None:
    studio.open("play", query="&model=improved")
    sliders = "[...document.querySelectorAll('input[type=range]')].filter(one => one.offsetParent)"
    studio.wait("[...document.querySelectorAll('label')].some(one => one.textContent.includes('mirrored') && one.offsetParent)")
    count = studio.tab.evaluate(f"{sliders}.length")
    for number in range(count):
        slider = f"{sliders}[{number}]"
        value = studio.tab.evaluate(f"String(Number({slider}.max) > 1.5 ? Number({slider}.min) + Number({slider}.step) : 0.5)")
        before = studio.tab.evaluate("window.location.search")
        studio.fill(slider, value)
        studio.wait(f"window.location.search !== {json.dumps(before)}")
    for box in range(2):
        before = studio.tab.evaluate("window.location.search")
        studio.tab.evaluate(f"({_BOX.format(box)}).click()")
        studio.wait(f"window.location.search !== {json.dumps(before)}")
    address = studio.tab.evaluate("window.location.search")
    assert "improved.size.0=13" in address and "improved.flip.0=true" in address and "lock=false" in address
    values = studio.tab.evaluate(f"{sliders}.map(one => one.value)")
    studio.tab.open(f"{studio.address}/{address}", 1280)
    studio.wait(f"JSON.stringify({sliders}.map(one => one.value)) === {json.dumps(json.dumps(values, separators=(',', ':')))}")
    studio.click("Sample")
    studio.wait(_PICTURE)


def test_a_job_is_cancelled_and_a_closed_page_frees_the_device(studio: Studio) -> None:
    for leave in (lambda: studio.click("Cancel"), lambda: studio.tab.open("about:blank", 800)):
        studio.open("play", query="&count=16&entangled.steps=250&entangled.solver=heun")
        studio.wait("[...document.querySelectorAll('input[type=range]')].some(one => one.value === '250')")
        studio.click("Sample")
        studio.wait("document.querySelector('#ldm-play-status progress')")
        leave()
        limit = time.monotonic() + _SECONDS
        while studio.jobs():
            assert time.monotonic() < limit, "the device is not free"
            time.sleep(0.1)
        assert not studio.tab.evaluate(_PICTURE)


def test_the_keyboard_samples_from_the_prompt(studio: Studio) -> None:
    studio.open("play")
    studio.wait("document.querySelector('.ldm-prompt textarea, .ldm-prompt input')")
    studio.tab.evaluate("document.querySelector('.ldm-prompt textarea, .ldm-prompt input').focus()")
    for kind in ("keyDown", "keyUp"):
        studio.tab.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    studio.wait(_PICTURE)


def test_controls_are_swept(studio: Studio) -> None:
    studio.open("controls")
    studio.click("Sweep")
    studio.wait("document.querySelectorAll('img.ldm-difference').length === 10")
    assert "content" in studio.tab.evaluate("document.body.innerText")


def test_runs_show_their_curves_and_refuse_what_has_ended(studio: Studio) -> None:
    studio.open("runs")
    studio.wait("document.querySelectorAll('#ldm-run svg').length >= 2")
    studio.click("Start or go on")
    studio.wait("[...document.querySelectorAll('.ldm-wrong')].some(one => one.textContent.includes('has finished'))")


def test_a_training_begins_and_saves_from_the_page(studio: Studio) -> None:
    studio.open("runs", query="&run=tiny")
    studio.wait("document.querySelector('#ldm-run dl')?.textContent.includes('not started')")
    studio.click("Start or go on")
    run = studio.runs / "runs" / "tiny"
    limit = time.monotonic() + _SECONDS
    while not any(event.name == "train" for event in read_events(run / "events.jsonl")):
        assert time.monotonic() < limit, (run / "studio.log").read_text()
        time.sleep(0.2)
    studio.click("Save and stop")
    studio.wait("[...document.querySelectorAll('.ldm-status')].some(one => one.textContent.includes('save and stop'))")
    while owner_of(run) is not None:
        assert time.monotonic() < limit, "the run did not stop"
        time.sleep(0.2)
    studio.click("Look again")
    studio.wait("document.querySelector('#ldm-run dl').textContent.includes('preempted')")
    assert read_history(run).state.word == "preempted" and any((run / "checkpoints").iterdir())


def test_a_picture_of_ones_own_is_started_from(studio: Studio) -> None:
    file = studio.runs / "own.png"
    Image.new("RGB", (48, 40), (20, 160, 60)).save(file)
    studio.open("play", query="&strength=0.04")
    header = "[...document.querySelectorAll('button')].find(one => one.textContent.includes('Start from a picture'))"
    studio.wait(header)
    studio.tab.evaluate(f"{header}.click()")
    studio.wait("document.querySelector('[data-ldm-file]') && document.querySelector('#ldm-start textarea, #ldm-start input')")
    root = studio.tab.call("DOM.getDocument")["root"]["nodeId"]
    node = studio.tab.call("DOM.querySelector", nodeId=root, selector="[data-ldm-file]")["nodeId"]
    studio.tab.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)
    studio.wait("document.querySelector('#ldm-start textarea, #ldm-start input').value.length > 100")
    studio.click("Sample")
    studio.wait(_PICTURE)
    colour = np.asarray(Image.open(io.BytesIO(studio.pictures()[0])).convert("RGB")).mean((0, 1))
    assert colour[1] > colour[0] + 40 and colour[1] > colour[2] + 40


def test_runs_are_compared_and_voted_on(studio: Studio) -> None:
    studio.open("compare")
    studio.click("Sample each")
    studio.wait("[...document.querySelectorAll('img.ldm-sample')].filter(one => one.offsetParent).length >= 8")
    studio.tab.evaluate("[...document.querySelectorAll('button')].find(one => one.textContent.includes('Blind vote')).click()")
    studio.click("Begin the vote")
    for number in range(4):
        studio.wait(f"document.body.innerText.includes('{number + 1} of 4')")
        studio.click("Left is better")
    studio.wait("document.querySelector('a[download=\"votes.csv\"]')")


def test_the_data_are_seen_and_the_nearest_picture_found(studio: Studio) -> None:
    studio.open("data")
    studio.click("Show pictures")
    studio.wait("document.querySelectorAll('.ldm-card').length === 6")
    studio.click("Nearest training pictures")
    studio.wait("document.body.innerText.includes('Root mean square')")
    studio.require_accessible(1280, "light", "dark")


def test_the_scrubber_moves_by_keyboard(studio: Studio) -> None:
    studio.open("denoise")
    studio.click("Show the steps")
    studio.wait("document.querySelector('[data-ldm-scrub]')")
    shown = "[...document.querySelectorAll('.ldm-frame')].findIndex(one => !one.hidden)"
    last = studio.tab.evaluate(shown)
    studio.tab.evaluate("document.querySelector('[data-ldm-scrub]').focus()")
    for kind in ("keyDown", "keyUp"):
        studio.tab.call("Input.dispatchKeyEvent", type=kind, key="ArrowLeft", code="ArrowLeft", windowsVirtualKeyCode=37)
    studio.wait(f"{shown} === {last - 1}")
    plots = "[...document.querySelectorAll('.ldm-plot svg')].filter(one => one.getBoundingClientRect().width).length"
    assert studio.tab.evaluate(plots) == 3
    studio.require_accessible(1280, "light", "dark")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_fits_and_stays_at_home(studio: Studio, page: str) -> None:
    for width, theme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
        studio.tab.open("about:blank", width)  # what the page before was still asking for is not counted
        opened = studio.open(page, width, theme)
        studio.wait("document.querySelectorAll('button').length > 6")
        assert studio.tab.evaluate("document.documentElement.scrollWidth") <= width
        assert not [each for each in opened.requests if not each.startswith((studio.address, "blob:"))]
        assert not opened.errors
        studio.require_accessible(width, theme)
