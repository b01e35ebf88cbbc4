"""Content change and control effect of a run, whose model a stand-in replaces: what it does to its pictures is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from open_ldm.commands.evaluate import content as content_of_run
from open_ldm.commands.evaluate import controlled, evaluate
from open_ldm.commands.evaluate.config import ContentChangeMetric, EvaluationConfig
from open_ldm.commands.evaluate.content import measure_content_change, real_pictures, real_source
from open_ldm.commands.evaluate.evaluate import evaluate_run
from open_ldm.commands.evaluate.pictures import SampledPictures, open_evaluated
from open_ldm.core.errors import DataError
from open_ldm.core.pictures import to_images
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.readers import ShapesReader
from open_ldm.evaluation.stored import stored_results
from open_ldm.run_folder.report.evaluation import evaluation_part
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.loader import DataConfig, open_data, read_batches
from open_ldm.sources.shapes import DrawnShape, Scene, ShapesConfig, draw
from open_ldm.studies.found import METRICS
from tests.cli.conftest import trained
from tests.evaluation.sets import Process

SIZES = ["4x4", "16x16", "64x64"]
CHANGING = 3


@pytest.fixture(scope="module")
def sized_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 32 px on shapes whose originals are 4 to 64 px, some of them held out."""
    shapes = "{kind: shapes, length: 400, two_shapes: 0}"
    return trained(
        tmp_path_factory.mktemp("sized"),
        f"data.source={{kind: shrunk, of: {shapes}, short_side_px: [4, 64]}}",
        "data.holdout={share: 0.2}",
        "data.transform={size_px: 32, flip: 0}",
        "training.samples=4",
    )


@pytest.fixture
def sampled(sized_run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Let a function (seed, control numbers by kind) -> uint8 [3, 32, 32] stand in for the run's model."""

    def install(paint: Callable[[int, dict[str, list[float]]], Tensor]) -> None:
        really = evaluate.open_evaluated

        def opened(*given: Any) -> Any:
            pictures = really(*given)
            if isinstance(pictures, SampledPictures):

                def images(inputs: Any, seeds: Any, settings: Any) -> Tensor:
                    told = [{kind: each[row].tolist() for kind, each in inputs.controls.items()} for row in range(len(seeds))]
                    return to_images(torch.stack([paint(seed, row) for seed, row in zip(seeds, told, strict=True)]))

                pictures.run.generator.images = images  # type: ignore[method-assign]
            return pictures

        monkeypatch.setattr(evaluate, "open_evaluated", opened)

    return install


def circle(colour: str = "red", x: float = 0.3) -> Tensor:
    drawn = DrawnShape(colour, "circle", "large", "left", x, 0.5, 0.45)
    return torch.from_numpy(draw(Scene(32, 32, 240, (drawn,)))).permute(2, 0, 1)


def entangled(seed: int, told: dict[str, list[float]]) -> Tensor:
    """Three seeds of ten are blue where the original is small; a flip mirrors every second one."""
    small, flip = told["original_size"][0] < 10, told["flip"][0] > 0
    picture = circle("blue" if small and seed < CHANGING else "red")
    return picture.flip(-1) if flip and seed % 2 else picture


def measured(run: Path, *metrics: Any, out: Path | None = None) -> Any:
    return evaluate_run(run, None, metrics, n=10, out=out, cache=None, device="cpu")


def content(control: str, **more: Any) -> dict[str, Any]:
    return {"kind": "content_change", "control": control, "pictures": 10, "real_pictures": 30, **more}


def effect(control: str, **more: Any) -> dict[str, Any]:
    return {"kind": "control_effect", "control": control, "pictures": 10, "real_pictures": 300, **more}


def test_known_changes_are_found_and_kept(sized_run: Path, sampled: Any, tmp_path: Path) -> None:
    sampled(entangled)
    found = measured(sized_run, content("size", values=["8x8", *SIZES[1:]], attributes=["colour", "place"]), out=tmp_path)
    share, floor = found.results
    assert (share.estimate.name, share.estimate.value, share.estimate.count) == ("content_change", CHANGING / 10, 10)
    assert (floor.estimate.name, floor.estimate.count) == ("content_change_floor", 30) and floor.estimate.value < 0.1
    assert share.protocol.entries["metric"] == "content_change(size=8x8|16x16|64x64, attributes=colour|place)"
    assert share.protocol.entries["extractor.name"] == "shapes reader" and share.protocol.entries["sampling.seeds"] == "0..9"
    assert found.more["content_change"]["size"]["attributes"] == {"colour": 0.3, "place": 0}
    assert "changed with size, by attribute (shapes reader): colour 30% (floor" in found.text()
    assert [one.result.estimate for one in stored_results(tmp_path)] == [share.estimate, floor.estimate]
    part = evaluation_part(tmp_path, 4)
    assert part is not None and {row[0] for row in part.content.values.rows} == {"content_change", "content_change_floor"}
    assert {one.estimate.name for one in found.results} <= set(METRICS)


def test_coarse_pictures_that_change_with_the_size_are_found_without_a_reader(
    sized_run: Path, sampled: Any, tmp_path: Path
) -> None:
    def paint(seed: int, told: dict[str, list[float]]) -> Tensor:
        return circle("blue" if told["original_size"][0] < 10 and seed < CHANGING else "red", 0.3 + 0.04 * seed)

    sampled(paint)
    metric = {"kind": "coarse_change", "values": ["8x8", "32x32"], "pictures": 10, "real_pictures": 30}
    found = measured(sized_run, metric, out=tmp_path)
    change, floor = found.results
    assert (change.estimate.name, floor.estimate.name) == ("coarse_change", "coarse_change_floor")
    assert 0.1 < change.estimate.value < 0.9 and floor.estimate.value < 0.05
    assert change.protocol.entries["metric"] == "coarse_change(size=8x8|32x32, detail of 8x8 px)"
    assert set(found.more["coarse_change"]["size"]["pairs"]) == {"8x8|32x32"}
    assert "coarse change by size, of what another seed changes: 8x8 and 32x32:" in found.text()
    small = replace(found, more={"coarse_change": {"size": {"pairs": {"8x8|32x32": 0.0042}}}})
    assert "8x8 and 32x32: 0.42 %" in small.text()
    assert {one.estimate.name for one in found.results} <= set(METRICS)
    with pytest.raises(DataError, match="crop is there to change whole pictures"):
        measured(sized_run, {"kind": "coarse_change", "control": "crop", "values": ["0,0", "4,0"]})


def test_a_number_stands_also_where_its_floor_cannot_be_measured(
    sized_run: Path, sampled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(data: DataConfig) -> Any:
        raise DataError("the pictures are not here")

    monkeypatch.setattr(content_of_run, "real_source", gone)
    sampled(entangled)
    coarse = {"kind": "coarse_change", "values": ["8x8", "32x32"], "pictures": 10}
    for metric in (content("size", values=["8x8", "32x32"]), coarse):
        (only,) = measured(sized_run, metric).results
        assert only.estimate.value > 0 and only.estimate.warnings == ("no floor: the pictures are not here",)
    monkeypatch.setattr(content_of_run, "real_pictures", lambda *given: torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    monkeypatch.setattr(content_of_run, "real_source", lambda data: None)
    (only,) = measured(sized_run, coarse).results
    assert only.estimate.value > 0 and "no floor: coarse_change: 1 pictures" in only.estimate.warnings[0]


def test_real_pictures_of_16_bits_are_seen_in_8(tmp_path: Path) -> None:
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 1 << 16, (24, 24), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "0.png").read_bytes()[:200])
    found = real_pictures(FolderConfig(path=tmp_path, channels=1, bits=16).open(), (16, 16), 4)
    assert found.dtype == torch.uint8 and len(found) == 4 and found[:3].float().std() > 20


def test_a_flip_changes_no_content_and_mirrors_half_of_the_seeds(sized_run: Path, sampled: Any) -> None:
    sampled(entangled)
    share, floor, mirrors = measured(sized_run, content("flip"), effect("flip")).results
    assert share.estimate.value == 0 and floor.estimate.value == 0
    assert mirrors.estimate.name == "control_effect" and mirrors.estimate.value == 0.5
    assert mirrors.protocol.entries["metric"] == "control_effect(flip=0|1, place)"


def test_pictures_that_several_metrics_need_are_sampled_once(sized_run: Path, sampled: Any) -> None:
    painted: list[tuple[int, float]] = []

    def counted(seed: int, told: dict[str, list[float]]) -> Tensor:
        painted.append((seed, told["original_size"][0]))
        return entangled(seed, told)

    sampled(counted)
    measured(sized_run, content("size", values=SIZES), effect("size", values=SIZES))
    assert len(painted) == len(set(painted)) == 3 * 10


def test_a_control_that_is_ignored_has_no_effect_and_one_like_real_pictures_has_all(sized_run: Path, sampled: Any) -> None:
    """Once one picture whatever the size, then real training views of the size that is told, each once."""
    sampled(lambda seed, told: circle())
    (ignored,) = measured(sized_run, effect("size", values=SIZES)).results
    assert ignored.estimate.value == pytest.approx(0, abs=1e-9) and ignored.estimate.low <= 0 <= ignored.estimate.high
    recipe = open_run(sized_run).run.recipe
    data = open_data(recipe.data)
    views: dict[int, list[Tensor]] = {4: [], 16: [], 64: []}
    for batch in read_batches(data, recipe.data.transform, seed=0, position_ranges=[range(300)], workers=0):
        for pixels, record in zip(batch.pixels, batch.records, strict=True):
            sides = torch.tensor([record.original_height_px, record.original_width_px]).log2()
            for size, near in views.items():
                if (sides - torch.tensor([size, size]).log2()).norm() <= 2**0.5:  # half of two octaves along both sides
                    near.append(pixels)
    count = min(map(len, views.values()))

    def real(seed: int, told: dict[str, list[float]]) -> Tensor:
        return views[round(told["original_size"][0])][seed]

    sampled(real)
    metric = effect("size", values=SIZES) | {"pictures": count}
    (whole,) = evaluate_run(sized_run, None, [metric], n=count, cache=None, device="cpu").results
    assert count >= 30 and whole.estimate.low < 1 < whole.estimate.high and whole.estimate.low > 0.5


def open_run(run: Path) -> SampledPictures:
    opened = open_evaluated(run, EvaluationConfig(metrics=("kid",), n=2), None, "train", "cpu")
    assert isinstance(opened, SampledPictures)
    return opened


def test_values_without_real_pictures_are_left_out_with_a_warning(sized_run: Path, sampled: Any) -> None:
    sampled(entangled)
    found = measured(sized_run, effect("size", values=["4x4", "16x16", "64x64", "256x256"]))
    assert "leaves out size=256x256" in found.results[0].estimate.warnings[0]
    assert set(found.more["control_effect"]["size"]["real"]) == set(SIZES)
    assert found.results[0].protocol.entries["metric"] == "control_effect(size=4x4|16x16|64x64, detail beyond 4x4 px)"


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (content("sise"), "content_change: the run has no control 'sise'; needed: .*did you mean 'size'"),
        (content("crop"), "content_change: no values were given for crop"),
        (effect("aspect", values=["1:1", "2:1"]), "cannot tell what aspect should change"),
        (effect("flip", values=["0", "0"]), "needed: the values 0 and 1"),
        (effect("size", values=["40x40", "64x64"]), "no size is below that of the pictures"),
        (content("size", attributes=["color"]), "no attribute 'color'"),
    ],
)
def test_mistakes_are_one_line(sized_run: Path, sampled: Any, metric: Any, said: str) -> None:
    sampled(entangled)
    with pytest.raises(DataError, match=said):
        measured(sized_run, metric)


def test_without_a_reader_the_error_says_how_to_make_one(sized_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controlled, "ShapesConfig", type("Other", (), {}))  # as if the data were photographs
    with pytest.raises(DataError, match="ldm evaluate fit-features DATA shrunk_to_px=8"):
        measured(sized_run, content("size"))


def test_metrics_of_other_numbers_of_pictures_do_not_share_batches(sized_run: Path) -> None:
    pictures = replace(open_run(sized_run), seeds=range(4))
    samples = controlled.ControlledSamples(pictures)
    assert [batch.seeds for batch in samples.batches("size", SIZES, range(2), controlled.World())] == [(0, 1)]


def test_the_floor_is_measured_on_pictures_as_they_were_before_they_were_made_small(sized_run: Path) -> None:
    """Where the size depends on the colour, large originals would be of one colour, and the floor of that colour alone."""
    shapes = {"kind": "shapes", "length": 400, "two_shapes": 0, "colours": ["red", "blue"], "split": "all"}
    held_out = {"share": 0.25}
    view = {"size_px": 32}
    entangled_sizes = {**shapes, "short_side_px": [8, 32], "entangle": {"size": "colour", "strength": 1}}
    sources = (entangled_sizes, {"kind": "shrunk", "of": shapes, "short_side_px": [8, 16]})
    for source in sources:
        data = DataConfig.model_validate({"source": source, "holdout": held_out, "transform": view})
        real, given = real_source(data), open_data(data, "held_out")
        assert [real.sample_id(i) for i in range(len(real))] == [given.sample_id(i) for i in range(len(given))]
        pixels = real_pictures(real, (32, 32), 30)
        colours = [one["colour"] for one in ShapesReader().read(pixels)]
        assert {("red",), ("blue",)} <= set(colours) and 0.2 < colours.count(("red",)) / len(colours) < 0.8
        sizes = sorted(real.size_of(i) for i in range(len(real)))
        assert max(min(size) for size in sizes) > 100


def test_where_no_picture_is_large_the_largest_are_read() -> None:
    source = ShapesConfig(length=60, two_shapes=0, short_side_px=(8, 20)).open()
    sides = sorted((min(source.size_of(index)) for index in range(60)), reverse=True)
    assert len(real_pictures(source, (32, 32), 12)) == 12
    read: list[int] = []
    really = source.scene
    source.scene = lambda index: read.append(index) or really(index)  # type: ignore[func-returns-value,method-assign]
    real_pictures(source, (32, 32), 12)
    assert sorted((min(source.size_of(index)) for index in read[60:72]), reverse=True) == sides[:12]


class Sharing(Process):
    """One of two processes that share the seeds."""

    def __init__(self, rank: int, before: Sequence[Any] = ()) -> None:
        super().__init__(before)
        self.rank, self.size = rank, 2


def test_processes_that_share_the_seeds_read_what_one_reads(sized_run: Path) -> None:
    """Two processes, one after the other, the second of which is handed what the first found."""
    settings = SamplingConfig(steps=1, batch_size=3)
    pictures = replace(open_run(sized_run), settings=settings, seeds=range(8))

    def images(inputs: Any, seeds: Any, settings: Any) -> Tensor:
        small = (inputs.controls["original_size"][:, 0] < 10).tolist()
        colours = ["blue" if one and seed % 4 == 0 else "red" for seed, one in zip(seeds, small, strict=True)]
        return to_images(torch.stack([circle(colour) for colour in colours]))

    pictures.run.generator.images = images  # type: ignore[method-assign]
    samples = controlled.ControlledSamples(pictures)
    metric = ContentChangeMetric(values=("8x8", "64x64"), attributes=("colour",), pictures=8, real_pictures=4)
    alone = measure_content_change(samples, metric, [], BootstrapConfig())
    first = Sharing(0)
    measure_content_change(samples, metric, [], BootstrapConfig(), world=first)  # type: ignore[arg-type]
    both = measure_content_change(samples, metric, [], BootstrapConfig(), world=Sharing(1, first.values))  # type: ignore[arg-type]
    assert both.results[0] == alone.results[0] and alone.results[0].estimate.value == 0.25
    rows = torch.arange(8.0).view(8, 1)
    handed = Sharing(1, [([1, 4, 6], rows[[1, 4, 6]]), ([], rows[:0])])
    whole = controlled.together(handed, [7, 0, 2, 3, 5], rows[[7, 0, 2, 3, 5]])  # type: ignore[arg-type]
    assert torch.equal(whole, rows)
