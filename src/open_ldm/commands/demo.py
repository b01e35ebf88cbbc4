"""`ldm demo`: train on shapes, then check what was learned with a reader that knows nothing of the model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from open_ldm.commands.control_leakage import Influence, influence
from open_ldm.commands.demo_report import AGREEMENT, FLIP_SWEEP, SIZE_SWEEP, UNSEEN, change_of, demo_sections, row_of
from open_ldm.commands.sample import sample_pixels, settings_from
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import Progress
from open_ldm.core.files import write_json
from open_ldm.core.pictures import grid, png_bytes, save_png
from open_ldm.data.shape_words import COLOURS, HELD_OUT, KINDS, PLACES, SIZES, ShapeWords, shapes_in, write_caption
from open_ldm.data.sources.shapes import ShapesConfig
from open_ldm.evaluation.shape_attributes import AgreementShares, agreement, mean_agreement
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.report.page import write_report
from open_ldm.runs.train import train
from open_ldm.sampling.requests import SampleRequest

_SIZES_PX = (24, 48, 96, 160)
_SHOWN = 16
_LEAK_TIMES = (1.0, 0.75, 0.5, 0.25, 0.05)
_SEED = 0


@dataclass(frozen=True)
class Checked:
    """Pictures of one group of captions with what the reader says of them."""

    title: str
    captions: tuple[str, ...]
    pixels: Tensor
    shares: AgreementShares

    def row(self) -> list[str]:
        """For the table: shares in per cent."""
        return row_of(self.title, self.shares)


@dataclass(frozen=True)
class DemoResult:
    """What the demo found; `agreement` holds shares 0..1 by group of captions."""

    code: int
    run: Path
    report: Path
    agreement: Mapping[str, AgreementShares]
    size_influence: Sequence[Influence]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "size_influence": [asdict(each) for each in self.size_influence],
            "code": self.code,
            "run": str(self.run),
            "report": str(self.report),
            "seconds": round(self.seconds, 1),
            "agreement": {name: asdict(shares) for name, shares in self.agreement.items()},
        }


def run_demo(recipe: Recipe, out: Path, *, silent: bool = False, overrides: Sequence[str] = ()) -> DemoResult:
    """Train (or go on), sample captions with combinations never seen, sweep size and flip, write report.html.

    `overrides`: what was changed in the recipe, for the report. Raises ConfigError, before anything is trained, when the recipe
    lacks what the demo shows.
    """
    if not isinstance(recipe.data.source, ShapesConfig):
        raise ConfigError(f"ldm demo needs data.source.kind=shapes, not {recipe.data.source.kind}", fix="use ldm train")
    missing = {"size", "flip"} - {control.option for control in recipe.conditioning.controls}
    if missing or not isinstance(recipe.conditioning.semantic, TextSemantic):
        raise ConfigError("the recipe lacks what the demo shows", needed="a text condition and the size and flip controls")
    started = time.perf_counter()
    result = train(recipe, out, silent=silent, command=["ldm", "demo", *overrides, "--out", str(out)])
    if result.code:
        return DemoResult(result.code, out, out / "report.html", {}, (), result.seconds)
    run = load_run(out)
    checked = [_check(run, title, captions, silent) for title, captions in caption_groups().items()]
    sweeps = _sweeps(run, silent)
    for name, png in sweeps.items():
        (out / name).write_bytes(png)
    shown = checked[0]
    save_png(out / UNSEEN, grid(shown.pixels[:_SHOWN], 8, captions=shown.captions[:_SHOWN]))
    leaks = influence(run, "size", ("24x24", "160x160"), shown.captions[:_SHOWN], _LEAK_TIMES)
    found = {each.title: each.shares for each in checked}
    seconds = time.perf_counter() - started
    demo = DemoResult(0, out, out / "report.html", found, leaks, seconds)
    write_json(out / AGREEMENT, demo.to_json())
    write_report(out, demo_sections(out))
    if not silent:
        _print(checked, demo)
    return demo


def caption_groups() -> dict[str, tuple[str, ...]]:
    """Captions to check: one shape in combinations never seen, one shape in seen ones, two shapes."""
    unseen = [write_caption([ShapeWords(*pair, size, place)]) for pair in HELD_OUT for size in SIZES for place in PLACES]
    pairs = [(colour, kind) for colour in COLOURS for kind in KINDS if (colour, kind) not in HELD_OUT]
    seen = [write_caption([ShapeWords(*pair, size, place)]) for pair in pairs for size in SIZES for place in PLACES]
    two = []
    for i, (colour, kind) in enumerate(pairs):
        other = next(pair for pair in (pairs[(i + 7 + j) % len(pairs)] for j in range(len(pairs))) if pair[0] != colour)
        first = ShapeWords(colour, kind, SIZES[i % 2], PLACES[(i // 2) % 2])
        two.append(write_caption([first, ShapeWords(*other, SIZES[(i + 1) % 2], "")]))
    return {"one shape, unseen combination": tuple(unseen * 2), "one shape": tuple(seen), "two shapes": tuple(two)}


def _check(run: LoadedRun, title: str, captions: Sequence[str], silent: bool) -> Checked:
    requests = [SampleRequest(_SEED + i, caption) for i, caption in enumerate(captions)]
    pixels = _sample(run, title, requests, silent)
    found = [agreement(one, shapes_in(caption)) for one, caption in zip(pixels, captions, strict=True)]
    return Checked(title, tuple(captions), pixels, mean_agreement(found))


def _sweeps(run: LoadedRun, silent: bool) -> dict[str, bytes]:
    """The same captions and seeds under different size and flip controls, as PNG grids by name."""
    captions = [
        "a large red circle on the left",
        "a small blue square on the right",
        "a large green cross to the left of a small yellow circle",
    ]
    sizes = [f"{side}x{side}" for side in _SIZES_PX]
    by_size = [SampleRequest(_SEED + i, caption, {"size": size}) for i, caption in enumerate(captions) for size in sizes]
    by_flip = [SampleRequest(_SEED + i, caption, {"flip": flip}) for i, caption in enumerate(captions) for flip in "01"]
    pictures = {
        SIZE_SWEEP: grid(
            _sample(run, "size control", by_size, silent),
            len(sizes),
            row_headers=captions,
            column_headers=[f"size={size}" for size in sizes],
        ),
        FLIP_SWEEP: grid(
            _sample(run, "flip control", by_flip, silent), 2, row_headers=captions, column_headers=["flip=0", "flip=1"]
        ),
    }
    return {name: png_bytes(picture) for name, picture in pictures.items()}


def _sample(run: LoadedRun, label: str, requests: Sequence[SampleRequest], silent: bool) -> Tensor:
    settings = settings_from(run)
    batches = -(-len(requests) // settings.batch_size)
    with Progress(settings.steps * batches, label=label, unit="steps", silent=silent) as progress:
        return sample_pixels(run, requests, settings, lambda done: progress.update(done))


def _print(checked: Sequence[Checked], demo: DemoResult) -> None:
    print("\nshare of sampled pictures that agree with their caption (independent reader):")
    print(f"  {'captions':<32}{'pictures':>9}{'colour':>8}{'kind':>8}{'place':>8}{'size':>8}{'count':>8}{'all':>8}")
    for each in checked:
        title, *cells = each.row()
        print(f"  {title:<32}{cells[0]:>9}" + "".join(f"{cell:>8}" for cell in cells[1:]))
    print("\nsize=24x24 against size=160x160, same noise and caption: change of the prediction")
    print("  " + "   ".join(f"t={each.t:g}: {change_of(each.change, each.exact)}" for each in demo.size_influence))
    print(f"\nreport: {demo.report.resolve()}")
    print(f"next:   ldm sample {demo.run} --prompt 'a small purple cross on the right' size=96x96 flip=0")
