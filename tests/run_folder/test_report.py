from __future__ import annotations

import base64
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch

from open_ldm.commands.refresh_report import refresh_report
from open_ldm.core.pictures import grid, png_bytes
from open_ldm.evaluation.stored import stored_results
from open_ldm.pages.content import Picture
from open_ldm.run_folder.history import Preview, busy_seconds, read_history
from open_ldm.run_folder.report import sampled
from open_ldm.run_folder.report.head import recipe_name
from open_ldm.run_folder.report.page import Section, write_report
from open_ldm.run_folder.report.samples import evenly
from tests.run_folder.fake import HOSTILE, add_drawn, add_evaluation

VOID = {"meta", "img", "br", "input", "line", "path"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and insists that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.sections: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.pictures += [value or "" for name, value in attrs if name in ("src", "action", "data", "srcset")]
        self.links += [value or "" for name, value in attrs if name == "href"]
        self.sections += [value or "" for name, value in attrs if tag == "section" and name == "id"]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def run(fake_run: Path, tmp_path: Path) -> Path:
    """A copy a test may damage."""
    return Path(shutil.copytree(fake_run, tmp_path / "run"))


def page_of(run: Path, *sections: Section) -> Page:
    return Page(write_report(run, sections).read_text(encoding="utf-8"))


def test_the_page_is_well_formed_self_contained_and_without_script(run: Path) -> None:
    page = page_of(run)
    assert page.pictures, "previews are shown"
    assert all(link.startswith("data:image/png;base64,") for link in page.pictures)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert "url(" not in (run / "report.html").read_text()


def test_every_link_leads_to_a_file_beside_the_page_or_to_a_part_of_it(run: Path) -> None:
    add_evaluation(run)
    add_drawn(run)
    page = page_of(run)
    anchors = [link.removeprefix("#") for link in page.links if link.startswith("#")]
    files = [unquote(link) for link in page.links if not link.startswith("#")]
    assert anchors == page.sections and len(set(anchors)) == len(anchors) > 8
    assert all((run / file).exists() and not file.startswith(("/", "..")) for file in files)
    assert {"config.yaml", "evaluation.json", "samples/", "drawn/0001/grid.png", "samples/000120000.png"} <= set(files)


def test_everything_from_outside_is_escaped(run: Path) -> None:
    added = Section(HOSTILE, HOSTILE, [Picture(HOSTILE, b"x")], [HOSTILE], [[HOSTILE]])
    page = page_of(run, added)
    assert "script" not in page.tags
    # In the caller's section five times, and in the recipe, the data, the bad ids, the captions and the warning.
    assert page.text.count(HOSTILE) >= 9


def test_the_pictures_are_the_files_newest_first(run: Path) -> None:
    page = page_of(run)
    assert len(page.pictures) == 12
    inlined = [base64.b64decode(link.split(",", 1)[1]) for link in page.pictures]
    assert inlined[0] == (run / "samples/000120000.png").read_bytes()
    assert inlined[1] == (run / "samples/000001600.png").read_bytes()


def test_a_preview_of_lost_work_is_left_out(run: Path) -> None:
    shutil.copy(run / "samples/000001600.png", run / "samples/000200000.png")
    assert "000200000" not in [preview.path.stem for preview in read_history(run).previews]
    (run / "events.jsonl").unlink()
    assert "000200000" in [preview.path.stem for preview in read_history(run).previews]


def test_previews_are_spread_evenly_with_both_ends() -> None:
    previews = [Preview(Path(str(number)), number, ()) for number in range(100)]
    seen = [preview.samples_seen for preview in evenly(previews, 12)]
    assert seen == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]
    assert evenly(previews[:3], 12) == previews[:3]


def test_the_head_says_what_the_run_is(run: Path) -> None:
    text = page_of(run).text
    for expected in ("finished", "recipe shapes-text", "mmdit XS", "1.812M", "bf16"):
        assert expected in text, expected


def test_the_commands_to_go_on_can_be_typed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ldm sample run --prompt 'a large red circle on the left' --count 16" in page_of(run).text
    monkeypatch.chdir(run)
    text = page_of(run).text
    assert "ldm train shapes-text denoiser.size=XS" in text
    assert f"ldm sample {run} --prompt 'a large red circle on the left' --count 16" in text
    assert "size=256x256 crop=0,0 flip=0 aspect=4:3" in text


def test_controls_with_equal_gates_share_a_curve(run: Path) -> None:
    text = page_of(run).text
    assert "crop, flip (constant)" in text
    assert "original size (power cosine α = 8 on the noise level)" in text
    (run / "config.yaml").write_text("conditioning: {controls: [{kind: flip, gate: {kind: unheard_of}}, 3]}")
    assert "Gates" not in page_of(run).text


def test_a_resume_forgets_what_was_lost_and_the_time_counts_it(run: Path) -> None:
    history = read_history(run)
    seen = [event.samples_seen for event in history.named("train")]
    assert seen == sorted(set(seen)), "each sample count once"
    assert len([event for event in history.events if event.name == "train"]) > len(seen)
    assert busy_seconds(history.events) == pytest.approx(64_000 / 450 + (412 - 140 - 57_600 / 450), abs=0.1)


@pytest.mark.parametrize("missing", ["config.yaml", "events.jsonl", "samples", "data.json", "exit.json", "everything"], ids=str)
def test_what_is_missing_is_left_out(run: Path, missing: str) -> None:
    for path in list(run.iterdir()):
        if missing in ("everything", path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = page_of(run)
    assert ("Gates of the controls" in page.text) == (missing not in ("config.yaml", "everything"))
    assert ("Samples through time" in page.text) == (missing not in ("samples", "everything"))
    assert ("What happened" in page.text) == (missing not in ("events.jsonl", "everything"))


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'"text"', b"\xff\xfe\x00", b"conditioning: {controls: 7}"])
def test_what_is_damaged_is_left_out(run: Path, content: bytes) -> None:
    for name in ("config.yaml", "events.jsonl", "data.json", "exit.json", "samples/000120000.png"):
        (run / name).write_bytes(content)
    assert "not started" in page_of(run).text


def test_columns_of_metadata_are_shown_by_range_or_by_counts(run: Path) -> None:
    page = " ".join(re.sub("<[^>]*>", " ", write_report(run).read_text()).split())
    assert "column missing values exposure_ms 21 of 2,000 40.4 to 1,971, median 118" in page
    assert "stain_2 4 of 14 HE 3, PAS 2; not listed by the control: M T 5 empty 14 of 14 none" in page
    assert "88, 3 more" in page and "None" not in page and "quantiles" not in page


@pytest.mark.parametrize(
    "survey",
    [
        {},
        {"a": None},
        {"a": []},
        {"a": {}},
        {"a": [1, "b"]},
        {"a": {"b": {"c": 1}}},
        {"a": True},
        5,
        [1],
        {"columns": {"a": {}, "b": {"quantiles": 3, "counts": [1]}}},
        {"columns": {"a": 1}},
    ],
)
def test_any_survey_is_shown(run: Path, survey: object) -> None:
    health = {"bad": {"one": 3, "two": {"count": 7, "ids": ["x"]}, "three": None}}
    (run / "data.json").write_text(json.dumps({"survey": survey, "health": health}))
    assert "Pictures that could not be used" in page_of(run).text


@pytest.mark.parametrize("health", [{"bad": ["a.png"]}, {"bad": 3}, {"bad": {}}, {}, 7, None])
def test_any_health_is_shown_or_left_out(run: Path, health: object) -> None:
    (run / "data.json").write_text(json.dumps({"sentence": "5 pictures", "health": health}))
    text = page_of(run).text
    assert "5 pictures" in text
    assert "could not be used" not in text


def test_losses_that_are_never_finite_do_not_break_the_page(run: Path) -> None:
    events = (run / "events.jsonl").read_text()
    (run / "events.jsonl").write_text(re.sub(r'"loss": [^,]+,', '"loss": "nan",', events))
    text = page_of(run).text
    assert "no finite values yet" in text
    assert "Loss, running mean" not in text


@pytest.mark.parametrize(
    ("code", "word"), [(0, "finished"), (75, "preempted"), (70, "stopped, exit code 70"), (None, "running")]
)
def test_the_state_is_the_last_end(run: Path, code: int | None, word: str) -> None:
    lines = (run / "events.jsonl").read_text().splitlines()[:-2]
    (run / "exit.json").unlink()
    if code is not None:
        lines.append(json.dumps({"event": "end", "time": "2026-03-14T10:00:00+00:00", "samples_seen": 1, "code": code}))
    (run / "events.jsonl").write_text("\n".join(lines) + "\n")
    assert read_history(run).state.word == word


def test_an_exit_file_older_than_the_log_is_from_another_process(run: Path) -> None:
    lines = (run / "events.jsonl").read_text().splitlines()[:-2]
    (run / "events.jsonl").write_text("\n".join(lines) + "\n")
    (run / "exit.json").write_text('{"code": 75, "reason": "SIGTERM"}')
    assert read_history(run).state.word == "preempted"
    os.utime(run / "exit.json", (0, 0))
    assert read_history(run).state.word == "running"


def test_the_recipe_name_is_read_from_the_command() -> None:
    assert recipe_name(["ldm", "train", "shapes-text", "a.b=c", "--out", "x"]) == "shapes-text"
    assert recipe_name(["ldm", "train", "--json", "my/recipes/own.yaml"]) == "own"
    assert recipe_name(["ldm", "demo"]) == "demo"
    assert recipe_name([]) == ""


def test_a_callers_section_is_shown(run: Path) -> None:
    png = png_bytes(grid(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 2))
    added = Section("Agreement", "One.\n\nTwo.", [Picture("sweep", png)], ["what", "share"], [["colour", "91 %"]])
    page = page_of(run, added)
    assert all(word in page.text for word in ("Agreement", "One.", "Two.", "sweep", "colour", "91 %"))
    assert "data:image/png;base64," + base64.b64encode(png).decode() in page.pictures


def test_the_newest_evaluation_is_shown_with_interval_extractor_and_protocol(run: Path) -> None:
    assert "Evaluation" not in page_of(run).text
    add_evaluation(run, samples_seen=64_000)
    text = page_of(run).text
    for words in ("23.46", "22.9 to 24.1", "inception-2015 <b>", "64,000", "clip_score: no extractor reads text"):
        assert words in text, words
    assert "Measured after 64,000 samples; the run has seen 120,000." in text and "only 1,000 pictures" in text
    stored = stored_results(run)
    assert all(one.result.protocol.id in text for one in stored) and "precision_recall(k=5)" in text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"results": 3}', '{"results": [{"name": "fid"}]}', '{"results": []}'])
def test_a_damaged_evaluation_is_left_out_and_said(run: Path, content: str) -> None:
    (run / "evaluation.json").write_text(content)
    assert "Loss, running mean" in (text := page_of(run).text) and "Protocol" not in text
    assert ("evaluation.json cannot be read" in text) == (content != '{"results": []}')


@pytest.mark.parametrize("field", ["value", "low", "count", "samples_seen"])
def test_a_value_that_is_no_number_is_left_out(run: Path, field: str) -> None:
    add_evaluation(run)
    content = json.loads((run / "evaluation.json").read_text())
    content["results"][0][field] = "sundry"
    (run / "evaluation.json").write_text(json.dumps({**content, "refused": ["x"]}))
    text = page_of(run).text
    assert "0.7123" in text and "sundry" not in text and "Not measured" not in text
    assert "1 of 2 values in evaluation.json are no numbers" in text


def test_the_newest_drawn_pictures_are_shown_with_their_settings(run: Path) -> None:
    add_drawn(run, 2, "heun")
    newest = add_drawn(run, 10, "dpmpp_2m")
    add_drawn(run, 9, "euler")
    page = page_of(run)
    assert "dpmpp_2m, 20 steps, semantic scale 4, control scale 1.5, at 120,000 samples seen" in page.text
    assert "8 pictures, seeds 0 to 7, size=64x64" in page.text and "heun" not in page.text
    png = base64.b64encode((newest / "grid.png").read_bytes()).decode()
    assert "data:image/png;base64," + png in page.pictures and "drawn/0010/grid.png" in page.links


@pytest.mark.parametrize("content", ["{", "[]", '{"sampling": 3, "pictures": [1, {}]}', '{"pictures": [{"seed": 1}]}'])
def test_drawn_pictures_without_their_settings_are_shown_all_the_same(run: Path, content: str) -> None:
    folder = add_drawn(run)
    (folder / "samples.json").write_text(content)
    assert "Newest samples" in page_of(run).text
    (folder / "grid.png").unlink()
    assert "Newest samples" not in page_of(run).text


def test_a_grid_too_large_for_a_page_is_linked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_drawn(run)
    monkeypatch.setattr(sampled, "_MOST_BYTES", 100)
    page = page_of(run)
    assert len(page.pictures) == 12 and "drawn/0001/grid.png" in page.links and "is too large" in page.text


def test_a_folder_with_a_strange_name_is_linked_all_the_same(run: Path) -> None:
    checkpoint = run / "checkpoints" / 'a "b" <c> %41#?&'
    checkpoint.mkdir(parents=True)
    (checkpoint / "MANIFEST.json").write_text("{}")
    (found,) = (link for link in page_of(run).links if "MANIFEST" in link)
    assert (run / unquote(found)).is_file() and not re.search('[ "<>#?]', found)


def test_refreshing_makes_no_page_where_there_is_none(run: Path) -> None:
    refresh_report(run)
    assert not (run / "report.html").exists()
    page_of(run)
    add_drawn(run)
    refresh_report(run)
    text = Page((run / "report.html").read_text()).text
    assert "Newest samples" in text
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    refresh_report(run)  # nothing is raised


def test_weights_without_a_history_say_so_and_how_many_samples_they_saw(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "samples-000000012000").mkdir(parents=True)
    history = read_history(tmp_path)
    assert (history.state.word, history.samples_seen) == ("weights alone", 12_000)
