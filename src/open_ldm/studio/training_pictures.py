"""Data: pictures as the trainer sees them, those that could not be used, and the training pictures nearest to a sample."""

from __future__ import annotations

import io
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from open_ldm.autoencoders.reconstruct import psnr_db
from open_ldm.checkpoints.names import run_folder_of
from open_ldm.controls.data import columns_of_controls, measures_of
from open_ldm.core.display import as_shown
from open_ldm.core.errors import ConfigError
from open_ldm.core.files import read_json_object
from open_ldm.core.pictures import png_bytes, to_images, to_picture, to_pixels
from open_ldm.data.order import Order
from open_ldm.data.sample import BadPicture, Source, TransformRecord
from open_ldm.data.transforms import CenterCrop, TransformConfig, transform
from open_ldm.run_folder.history import lookup
from open_ldm.runs.load import LoadedRun
from open_ldm.runs.ordering import order_of
from open_ldm.runs.shapes import buckets_of
from open_ldm.sources.loader import open_data, read_view
from open_ldm.studio.device_queue import Job
from open_ldm.studio.models import Models
from open_ldm.studio.play import PlayRequest, play

_SHOWN_PX = 288
_SIDE = 16
_COMPARED = 4000
"""Training pictures among which the nearest is looked for: the first ones of the data set."""
_AT_ONCE = 200


@dataclass(frozen=True)
class SeenPicture:
    """One view as training gets it.

    Attributes:
        id: Of the sample.
        whole: The stored picture with the box that was cut from it, as PNG.
        view: The view, after crop, flip and turn, as PNG.
        reconstruction: The view through the autoencoder, as PNG, and its PSNR in dB.
        facts: Size, crop, flip, caption, class and columns, in words.
    """

    id: str
    whole: bytes
    view: bytes
    reconstruction: bytes
    psnr_db: float
    facts: dict[str, str]


@dataclass(frozen=True)
class Neighbour:
    """A training picture: its id, its view as PNG, and its distance from the sample."""

    id: str
    png: bytes
    distance: float


@dataclass(frozen=True)
class Nearest:
    """A sample, its nearest training pictures, and among how many these were looked for."""

    sample: bytes
    neighbours: tuple[Neighbour, ...]
    looked_at: int


class TrainingPictures:
    """The data of the models' runs, opened when they are first looked at."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._sources: dict[str, Source] = {}
        self._orders: dict[str, Order] = {}
        self._coarse: OrderedDict[str, Tensor] = OrderedDict()

    def seen(self, name: str, position: int, count: int, job: Job[list[SeenPicture]]) -> list[SeenPicture]:
        """Read the views of `count` positions of the sample order, from `position` on.

        Raises:
            OpenLdmError: The data are not on this machine, or cannot be read.
        """
        run, source = self.models.load(name), self._source(name)
        controls, data, seed = run.recipe.conditioning.controls, run.recipe.data, run.recipe.training.seed
        cut, order = run.recipe.transform, self._order(name, run, source)
        measures, columns = measures_of(controls), columns_of_controls(controls)
        job.total = count
        found = []
        for number in range(count):
            job.tick(number)
            at = position + number
            read = read_view(source, cut, seed, at, data.views, measures=measures, columns=columns, order=order).view
            rebuilt, decibels = _reconstructed(run, read.pixels)
            names = source.class_names
            label = None if read.label is None or not names else names[read.label]
            facts = facts_of(read.record) | ({"caption": read.caption} if read.caption is not None else {})
            facts |= {"class": label} if label is not None else {}
            whole = boxed(shown(run, source[read.index].pixels), read.record)
            found.append(SeenPicture(read.id, whole, _png(run, read.pixels), _png(run, rebuilt), decibels, facts))
        return found

    def nearest(self, request: PlayRequest, count: int, job: Job[Nearest]) -> Nearest:
        """Sample one picture and find the training pictures nearest to it, by pixels averaged to 16 x 16.

        Raises:
            OpenLdmError: As `play`, or the data are not on this machine.
        """
        sampled = play(self.models, request.model_copy(update={"count": 1}), job)  # type: ignore[arg-type]
        run, source = self.models.load(request.model), self._source(request.model)
        png = sampled.pictures[0].png
        given = _coarse(_pixels_of(png))
        pictures = self._coarse_pictures(request.model, run, source, job)
        distances = (pictures - given).pow(2).mean(1).sqrt() / 255
        order = distances.argsort()[:count].tolist()
        views = [self._fixed(run, source, index) for index in order]
        both = zip(order, views, strict=True)
        near = tuple(Neighbour(source.sample_id(index), _png(run, view), float(distances[index])) for index, view in both)
        return Nearest(png, near, len(pictures))

    def _order(self, name: str, run: LoadedRun, source: Source) -> Order:
        """The order of its training; the sizes of all pictures are read once where views have several shapes."""
        if name not in self._orders:
            self._orders[name] = order_of(run.recipe, source, buckets_of(run.recipe.transform, source))
        return self._orders[name]

    def _source(self, name: str) -> Source:
        if name not in self._sources:
            self._sources[name] = open_data(self.models.load(name).recipe.data)
        return self._sources[name]

    def _coarse_pictures(self, name: str, run: LoadedRun, source: Source, job: Job[Nearest]) -> Tensor:
        if name not in self._coarse:
            rows = []
            for index in range(min(len(source), _COMPARED)):
                if index % _AT_ONCE == 0:
                    job.tick(job.done)
                rows.append(_coarse(as_shown(self._fixed(run, source, index)[None], run.recipe.data.display)[0]))
            self._coarse[name] = torch.stack(rows)
            while len(self._coarse) > 2:
                self._coarse.popitem(last=False)
        return self._coarse[name]

    @staticmethod
    def _fixed(run: LoadedRun, source: Source, index: int) -> Tensor:
        """The centred view of a training picture, uint8 [C, H, W]; a grey one for a bad picture."""
        cut = run.recipe.data.transform
        try:
            sample = source[index]
        except BadPicture:
            return torch.full((run.recipe.data.channels, cut.height_px, cut.width_px), 128, dtype=torch.uint8)
        view = TransformConfig(size_px=(cut.height_px, cut.width_px), crop=CenterCrop())
        made = transform(sample.pixels, (sample.original_height_px, sample.original_width_px), view, 0, 0)
        return to_pixels(to_images(made.pixels))


def bad_files(path: Path) -> list[tuple[str, str]]:
    """Return (reason, id) of the pictures that a run could not use, as its health.json or data.json tells."""
    folder = run_folder_of(path)
    content = read_json_object(folder / "health.json") or lookup(read_json_object(folder / "data.json"), "health") or {}
    reasons = content.get("bad") if isinstance(content, dict) else None
    found: list[tuple[str, str]] = []
    for reason, ids in reasons.items() if isinstance(reasons, dict) else ():
        found += [(str(reason), str(one)) for one in (ids if isinstance(ids, list) else [])]
    surveyed = lookup(read_json_object(folder / "data.json"), "survey.bad")
    for one in surveyed if isinstance(surveyed, list) else ():
        if isinstance(one, dict):
            found.append((str(one.get("reason", "")), str(one.get("id", ""))))
    return list(dict.fromkeys(found))


def facts_of(record: TransformRecord) -> dict[str, str]:
    """Return how a view was made, in words."""
    content = {
        "original": f"{record.original_height_px} x {record.original_width_px} px",
        "scaled to": f"{record.scaled_height_px} x {record.scaled_width_px} px",
        "cut at": f"top {record.crop_top_px}, left {record.crop_left_px}",
        "mirrored": "yes" if record.flip else "no",
    }
    if record.quarter_turns:
        content["turned"] = f"{90 * record.quarter_turns}°"
    measured = {"saturation": record.saturation, "brightness": record.brightness, "JPEG quality": record.jpeg_quality}
    content |= {name: f"{value:.3g}" for name, value in measured.items() if value is not None}
    return content | {name: "none" if value is None else str(value) for name, value in record.columns.items()}


def boxed(picture: Image.Image, record: TransformRecord) -> bytes:
    """Return a stored picture as PNG, small enough to look at, with the box that a view was cut from."""
    scale = _SHOWN_PX / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    large = picture.convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)
    across, down = size[0] / record.scaled_width_px, size[1] / record.scaled_height_px
    left, top = record.crop_left_px * across, record.crop_top_px * down
    right, bottom = left + record.width_px * across, top + record.height_px * down
    box = (round(left), round(top), min(size[0] - 1, round(right) - 1), min(size[1] - 1, round(bottom) - 1))
    ImageDraw.Draw(large).rectangle(box, outline=(230, 60, 30), width=3)
    return png_bytes(large)


def shown(run: LoadedRun, pixels: object) -> Image.Image:
    """Return stored pixels [H, W, C] of a source as people are shown them."""
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    return to_picture(as_shown(to_pixels(to_images(tensor))[None], run.recipe.data.display)[0])


def _reconstructed(run: LoadedRun, pixels: Tensor) -> tuple[Tensor, float]:
    rebuilt = to_pixels(run.generator.decode(run.generator.encode(to_images(pixels)[None])))[0]
    given = to_pixels(to_images(pixels))
    if rebuilt.shape != given.shape:
        raise ConfigError("the autoencoder gives another number of channels", needed="the one of the run")
    return rebuilt, float(psnr_db(rebuilt[None], given[None])[0])


def _png(run: LoadedRun, pixels: Tensor) -> bytes:
    return png_bytes(to_picture(as_shown(to_pixels(to_images(pixels))[None], run.recipe.data.display)[0]))


def _pixels_of(png: bytes) -> Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png)).convert("RGB"))).permute(2, 0, 1)


def _coarse(pixels: Tensor) -> Tensor:
    rgb = pixels.float() if pixels.shape[0] == 3 else pixels.float().expand(3, -1, -1)
    return torch.nn.functional.adaptive_avg_pool2d(rgb, _SIDE).flatten()
