"""`ldm demo` from end to end: train two models side by side, measure both, judge, and write the page."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from open_ldm.commands.demo.measure import ModelFindings, measure_model
from open_ldm.commands.demo.page import write_page
from open_ldm.commands.demo.verdict import Claim, judge
from open_ldm.commands.demo.versions import BASELINE, FULL, IMPROVED, Version, as_demo_begun
from open_ldm.commands.devices import ANY, Training, train_over
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import Progress, samples_seen_in
from open_ldm.core.files import write_json
from open_ldm.core.overrides import last_given
from open_ldm.core.threads import usable_cores
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.own_folder import require_own_folder
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.sources.shapes import ShapesConfig

FINDINGS, PAGE = "demo.json", "demo.html"


@dataclass(frozen=True)
class DemoResult:
    """What the demo found. `code`: 0, or 1 when a claim is surely wrong; `page`: for a browser."""

    code: int
    out: Path
    page: Path
    findings: Mapping[str, ModelFindings]
    claims: Sequence[Claim]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "code": self.code,
            "runs": {name: str(self.out / name) for name in self.findings},
            "page": str(self.page),
            "seconds": round(self.seconds, 1),
            "models": {name: found.to_json() for name, found in self.findings.items()},
            "claims": [asdict(claim) for claim in self.claims],
        }


def run_demo(out: Path, overrides: Sequence[str] = (), *, silent: bool = False, version: Version = FULL) -> DemoResult:
    """Train both models (or go on), measure them, and write demo.json and demo.html.

    Args:
        out: Folder of the demo; the runs are `out/entangled` and `out/improved`.
        overrides: Changes to both recipes.
        silent: No progress is shown; notes still go to stderr.
        version: What is trained and looked at.

    Returns:
        What was found; its code is 1 where an interval lies on the wrong side of a claim.

    Raises:
        ConfigError: A recipe lacks what the demo shows, there is nothing to look at, or `out` holds something else: nothing was
            trained then.
        StoppedError: A signal came; both runs have saved.
        OpenLdmError: A training failed.
    """
    started = time.perf_counter()
    if version.pictures < 1:
        raise ConfigError(f"{version.pictures} pictures for each number of the demo", needed="1 or more")
    version, notes = as_demo_begun(version, out)
    changes = {model: last_given([*version.changes[model], *overrides]) for model in version.recipes}
    resolved = {model: load_recipe(name, changes[model]) for model, name in version.recipes.items()}
    drawings = {model: _required_shapes(recipe, version) for model, recipe in resolved.items()}
    if not version.size_alone:
        _require_flip(resolved[IMPROVED])
    require_own_folder(out, "demo", (*version.recipes, FINDINGS, PAGE))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    _train(out, {model: (version.recipes[model], *changes[model]) for model in resolved}, resolved, silent)
    runs = {model: load_run(out / model) for model in resolved}
    findings = {
        model: measure_model(run, drawings[model], version, f"sample from {model}", silent=silent)
        for model, run in runs.items()
    }
    claims = judge(findings[BASELINE], findings[IMPROVED])
    code = int(any(claim.wrong for claim in claims))
    result = DemoResult(code, out, out / PAGE, findings, claims, time.perf_counter() - started)
    write_json(out / FINDINGS, result.to_json())
    write_page(result.page, drawings[IMPROVED], findings[BASELINE], findings[IMPROVED], claims, result.seconds)
    return result


def _train(out: Path, given: Mapping[str, Sequence[str]], recipes: Mapping[str, Recipe], silent: bool) -> None:
    """Train all models at the same time, each with its share of the cores: small networks gain little from a second thread."""
    trainings = [Training(out / model, ("ldm", "train", *given[model], "--out", str(out / model))) for model in recipes]
    total = sum(recipe.training.samples for recipe in recipes.values())
    threads = max(1, usable_cores() // len(trainings))
    with Progress(total, label=f"train {len(trainings)} models", silent=silent) as progress:

        def look() -> None:
            progress.update(sum(samples_seen_in(RunFolder(each.run).events) for each in trainings))

        train_over([ANY] * len(trainings), trainings, lambda text: None, threads=threads, on_look=look)
        progress.update(total)


def _required_shapes(recipe: Recipe, version: Version) -> ShapesConfig:
    source = recipe.data.source
    if not isinstance(source, ShapesConfig):
        raise ConfigError(f"ldm demo needs data.source.kind=shapes, not {source.kind}", fix="use ldm train")
    if "colour" not in source.untold:
        raise ConfigError("ldm demo needs captions without the colour", fix="data.source.untold=[colour]")
    if not (source.told_too or version.size_alone):
        raise ConfigError("ldm demo needs captions with and without the colour", fix="data.source.told_too=true")
    options = [control.asked_as for control in recipe.conditioning.controls]
    if "size" not in options or not isinstance(recipe.conditioning.semantic, TextSemantic):
        raise ConfigError(f"recipe {recipe.name} lacks what the demo shows", needed="a text condition and the size control")
    return source


def _require_flip(recipe: Recipe) -> None:
    if "flip" not in [control.asked_as for control in recipe.conditioning.controls]:
        raise ConfigError(f"recipe {recipe.name} lacks what the demo shows", needed="the flip control")
