"""What the functions take for a run, a path, a device, a metric or a control, and what they refuse in words of Python."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import open_ldm as ldm
from open_ldm.commands.evaluate.evaluator import Evaluator
from open_ldm.core.signals import stopped_by
from tests.api.test_runs import CAPTION, train
from tests.cli.test_metadata_controls import CONTROLS, paint, write_recipe
from tests.runs.tiny import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ldm.Run:
    return train(tmp_path_factory.mktemp("run") / "a")


def test_a_run_stands_for_its_path(run: ldm.Run, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"count": 1, "steps": 2, "semantic_scale": 3, "guide_scale": 2}
    by_path, by_run = (run.sample(CAPTION, guide=guide, **asked) for guide in (run.path, run))
    assert torch.equal(by_path.pixels, by_run.pixels)
    again = train(tmp_path / "a", samples=8)
    assert ldm.train(again, progress=False).path == again.path and ldm.load_recipe(again) == again.recipe
    other = ldm.transfer(run, run, "training.samples=24", out=tmp_path / "b", progress=False)
    assert other.samples_seen == 24 and json.loads((other.path / "transfer.json").read_text())["source"]["path"] == str(
        run.path
    )
    assert ldm.load_run(run).path == run.path and ldm.load_run(run, torch.device("cpu")).device == "cpu"


def test_paths_begin_at_the_home_folder(run: ldm.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    samples = run.sample(CAPTION, count=1, steps=1)
    assert samples.save("~/x").folder == tmp_path / "x" and samples.save(Path("~/y")).folder == tmp_path / "y"
    begun = run.sample(CAPTION, count=1, steps=1, start="~/x/00000.png")
    assert begun.start is not None and begun.start["file"] == "00000.png"
    with pytest.raises(ldm.OpenLdmError, match=re.escape(f"{tmp_path / 'none'} is no run folder")):
        run.sample(CAPTION, guide="~/none", guide_scale=2)


def test_a_device_that_is_not_here_is_named_as_it_was_given(run: ldm.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ldm.OpenLdmError, match=r"^device cuda is not available on this machine; needed: one of auto, cpu"):
        ldm.load_run(run, "cuda").sample(CAPTION, count=1, steps=1)
    with pytest.raises(ldm.OpenLdmError, match=r"^device cuda is not available"):
        run.evaluate(device=torch.device("cuda"))


def test_an_evaluation_takes_what_sampling_takes(run: ldm.Run) -> None:
    kid, settings = {"kind": "kid", "subset_size": 10}, "sampling.steps=1"
    options: dict[str, Any] = {"n": 12, "cache": None, "settings": settings, "progress": False}
    once = run.evaluate(metrics=kid, extractors={"kind": "random"}, controls={"flip": True, "size": None}, **options)
    twice = run.evaluate(metrics=[kid, kid], extractors=["random", "random"], controls={"flip": "1"}, **options)
    assert [result.estimate.value for result in once.results] == [result.estimate.value for result in twice.results]
    assert len(once.results) == 1


def test_controls_called_like_arguments_are_asked_for_in_a_mapping(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, paint(tmp_path / "pictures"))
    named = [{**CONTROLS[0], "name": "count"}, {**CONTROLS[1], "name": "a stain"}]
    run = ldm.train(recipe, {"conditioning.controls": named}, out=tmp_path / "run", progress=False)
    controls = {"count": 12, "a stain": "HE"}
    samples = run.sample(count=2, seed=5, steps=1, controls=controls, progress=False)
    assert [(one.seed, one.controls) for one in samples.requests] == [
        (5 + k, {"count": "12", "a stain": "HE"}) for k in range(2)
    ]
    assert run.sample(count=2, steps=1, controls={"count": None}, progress=False).requests[0].controls == {}


def test_an_interrupted_evaluation_speaks_of_calls(run: ldm.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: Any, **named: Any) -> Any:
        raise stopped_by("SIGINT")

    monkeypatch.setattr(Evaluator, "evaluate", interrupted)
    with pytest.raises(ldm.OpenLdmError, match=r"^stopped by SIGINT; fix: make the same call again$"):
        run.evaluate(metrics="kid", extractors="random", n=12, cache=None, progress=False)


MISTAKES: list[tuple[Callable[[ldm.Run], Any], str]] = [
    (
        lambda run: run.sample(classes="ship"),
        "classes was given, but this model was not trained with classes; fix: prompts=TEXT",
    ),
    (lambda run: run.sample("a crimson circle"), "never saw crimson"),
    (lambda run: run.sample(CAPTION, count=0), "count 0 is too small"),
    (lambda run: run.sample(CAPTION, sweep="a {red,blue} circle"), "sweep was given together with prompts"),
    (lambda run: run.sample(CAPTION, sweep="a {red,blue} circle"), "fix: leave prompts and classes out"),
    (lambda run: run.sample(CAPTION, view="zz"), "view='zz' cannot be read; needed: HEIGHTxWIDTH"),
    (lambda run: run.sample(CAPTION, view="a:b"), "view='a:b' cannot be read; needed: WIDTH:HEIGHT"),
    (lambda run: run.sample(CAPTION, colour=3), "knows no control 'colour'"),
    (lambda run: run.sample(CAPTION, size=(64, 64)), "needed: size=HEIGHTxWIDTH"),
    (
        lambda run: run.sample(CAPTION, controls={"size": "64x48"}, size="64x48"),
        "size is given twice, in controls and as an argument; needed: each control once",
    ),
    (lambda run: run.sample(CAPTION, controls={"colour": 3}), "knows no control 'colour'"),
    (lambda run: run.sample(CAPTION, controls="flip=1"), "controls='flip=1' cannot be used; needed: a mapping or None"),
    (lambda run: run.sample(CAPTION, steps=0), "steps=0"),
    (lambda run: run.sample(CAPTION, batch_size=0), "batch_size=0"),
    (lambda run: ldm.load_run(run.path / "samples"), "no run of a diffusion model"),
    (lambda run: ldm.load_recipe("demoo"), "did you mean 'demo'"),
    (lambda run: ldm.load_recipe(TINY, {"training": {"sampels": 3}}), "did you mean 'samples'"),
    (lambda run: ldm.load_recipe(TINY, {"name": object()}), "settings that YAML cannot hold"),
    (lambda run: ldm.load_recipe(3), "recipe=3 cannot be used; needed: text, a path, a mapping or a Recipe"),
    (lambda run: ldm.load_recipe(TINY, ["a=1", "b=2"]), "give its items one after the other"),  # type: ignore[arg-type]
    (lambda run: ldm.load_run(None), "path=None cannot be used; needed: a Run, text or a path"),  # type: ignore[arg-type]
    (lambda run: ldm.load_run(run.path, "gpu"), "device 'gpu' is unknown; needed: one of auto, cpu, cuda, mps"),
    (lambda run: ldm.load_run(run.path, torch.device("cuda", 1)), "fix: choose the card by CUDA_VISIBLE_DEVICES=1"),
    (lambda run: ldm.transfer(None, TINY), "source=None cannot be used"),  # type: ignore[arg-type]
    (lambda run: ldm.evaluate(run.sample(CAPTION, count=1, steps=1)), "needed: a Run, text or a path"),
    (lambda run: run.sample(CAPTION, count="2"), "count='2' cannot be used; needed: a whole number or None"),
    (lambda run: run.sample(classes=[]), "classes=[] is empty; needed: one or more"),
    (lambda run: run.sample(prompts=()), "prompts=[] is empty; needed: one or more"),
    (lambda run: run.sample(class_index=[]), "class_index=[] is empty; needed: one or more"),
    (lambda run: run.sample(CAPTION, count=1, steps=1).save(""), "folder='' is empty; needed: a path"),
    (
        lambda run: run.sample(CAPTION, count=1, steps=1).save(run),
        "its own for the samples; fix: choose another out",
    ),
    (lambda run: run.evaluate(out=""), "out='' is empty"),
    (lambda run: run.evaluate(cache=""), "cache='' is empty"),
    (lambda run: run.evaluate(extractors=None), "extractors=None cannot be used"),  # type: ignore[arg-type]
    (lambda run: run.evaluate(controls=["flip=1"]), "controls=['flip=1'] cannot be used; needed: a mapping or None"),
    (lambda run: train(run.path, "training.batch_size=8"), "choose another out"),
    (lambda run: run.evaluate(metrics="fidd"), "metrics.0.kind='fidd' is unknown"),
    (lambda run: run.evaluate(extractors="nowhere"), "extractors='nowhere' is no file and no folder"),
    (lambda run: run.evaluate(part="all"), "part 'all' is unknown"),  # type: ignore[arg-type]
    (lambda run: ldm.survey("no/such/folder"), "there is no folder, file or recipe 'no/such/folder'"),
    (lambda run: ldm.transfer(run, TINY, "init_from.source=x"), "both name a source"),
    (lambda run: ldm.encode(TINY, "data.views=1", entries=3), "entries=3 has no effect"),
    (lambda run: ldm.encode(TINY, "data.views=1", verify=True, entries=-1), "entries -1 is too small; needed: 0, for all, or"),
    (lambda run: ldm.encode(TINY, {"cache.path": "a"}, out="b"), "cache.path=a and out='b' both name the place"),
    (lambda run: ldm.encode(TINY, {"cache": {"path": "a"}}, out="b"), "cache.path=a and out='b' both name the place"),
]


@pytest.mark.parametrize(("mistake", "said"), MISTAKES, ids=[said[:40] for _, said in MISTAKES])
def test_mistakes_are_one_line_in_words_of_python(run: ldm.Run, mistake: Callable[[ldm.Run], Any], said: str) -> None:
    with pytest.raises(ldm.OpenLdmError) as caught:
        mistake(run)
    message = str(caught.value)
    assert said in message and "\n" not in message and " --" not in message
    assert caught.value._render_traceback_() == [f"{type(caught.value).__name__}: {message}"]
