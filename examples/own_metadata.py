"""Your own metadata as controls: microscope pictures of five channels with stain, magnification and exposure.

python examples/own_metadata.py

The pictures are drawn here, 16-bit arrays with a metadata.csv as a laboratory might have them (TIFF would do as well). A model
is trained with each column as a control, once with all values and once with a third of them missing. Does it obey? A reader,
fitted on real pictures alone, reads each column off samples that were asked for the values of held-out slides, and off those
slides themselves.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import open_ldm as ldm
from open_ldm.commands.fit_features import fit_features
from open_ldm.commands.sample import open_run, sample_pixels
from open_ldm.controls import Metadata
from open_ldm.core.display import as_shown
from open_ldm.core.pictures import grid, save_png
from open_ldm.data.columns import Columns, columns_of
from open_ldm.data.sample import Source
from open_ldm.evaluation.features.classifier_fit import FitConfig, is_fitted
from open_ldm.evaluation.features.small_network import SmallNetworkConfig
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import DataConfig, open_data, read_batches

OUT = Path(os.environ.get("OUT", "runs/own-metadata"))
COUNT = int(os.environ.get("COUNT", "3000"))  # pictures that are drawn
SHOWN = int(os.environ.get("SHOWN", "12800"))  # pictures that each classifier of `control_effect` is shown
ASKED = int(os.environ.get("ASKED", "240"))  # held-out pictures whose values are asked for
MEASURED = int(os.environ.get("MEASURED", "32"))  # seeds of which the effect of each control is measured
TRAINED = os.environ.get("TRAINED", "whole third-missing").split()
SETTINGS = os.environ.get("SETTINGS", "").split()  # for a first try: SETTINGS="training.samples=6400"

SIDE, SLIDES, WHITE = 16, 40, 4095
STAINS = {  # how strongly nuclei and cytoplasm show in each of the five channels
    "HE": ((1.0, 0.2, 0.1, 0.6, 0.1), (0.2, 0.1, 0.6, 0.1, 0.1)),
    "PAS": ((0.1, 1.0, 0.2, 0.1, 0.6), (0.1, 0.6, 0.1, 0.1, 0.2)),
    "MT": ((0.2, 0.1, 1.0, 0.1, 0.6), (0.6, 0.1, 0.1, 0.3, 0.1)),
}
CONTROLS = {
    "stain": Metadata(column="stain", values="auto"),
    "magnification": Metadata(column="magnification", scale="log"),
    "exposure_ms": Metadata(column="exposure_ms", scale="linear"),
}
SWEPT = {
    "stain": list(STAINS),
    "magnification": ["12", "18", "27", "40", "55"],
    "exposure_ms": ["50", "85", "120", "155", "190"],
}
RECIPE = {
    "name": "own-metadata",
    "data": {
        "source": {"kind": "folder", "path": "", "channels": 5, "channel_range": [[0, WHITE]]},
        "holdout": {"share": 0.2, "by": "slide_id"},
        "transform": {"size_px": SIDE, "crop": {"kind": "center"}},
        "views": 1,
        "workers": 0,
    },
    "autoencoder": {"kind": "identity", "channels": 5},
    "conditioning": {"controls": [control.model_dump() for control in CONTROLS.values()], "control_drop": 0.1},
    "denoiser": {"kind": "dit", "size": "XS", "depth": 3, "width": 64, "heads": 2, "patch": 2},
    "training": {
        "samples": 36000,
        "batch_size": 32,
        "optimizer": {"learning_rate": 2e-3, "betas": [0.9, 0.95], "warmup_samples": 1200, "decay": "cosine"},
        "ema": {"decay": 0.99},
        "log_every_samples": 3200,
        "checkpoint_every_samples": 12000,
    },
    "sampling": {"solver": "dpmpp_2m", "steps": 16},
}


def draw(numbers: np.random.Generator, stain: str, magnification: float, exposure_ms: float, offset: float) -> np.ndarray:
    """Paint cells, uint16 [5, SIDE, SIDE]: larger and fewer with the magnification, brighter with the exposure."""
    radius = 0.11 * magnification
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    nuclei, cytoplasm = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for _ in range(int(np.clip(60 / radius**2, 1, 12))):
        top, left = numbers.uniform(0, SIDE, 2)
        distance = np.hypot(rows - top, columns - left)
        nuclei = np.maximum(nuclei, 1 / (1 + np.exp(3 * (distance - 0.6 * radius))))
        cytoplasm = np.maximum(cytoplasm, 1 / (1 + np.exp(3 * (distance - radius))))
    in_nuclei, in_cytoplasm = (np.array(one)[:, None, None] for one in STAINS[stain])
    light = in_nuclei * nuclei + in_cytoplasm * (cytoplasm - nuclei).clip(0)
    counted = 200 + offset + 3300 * exposure_ms / 200 * light + numbers.normal(0, 40, light.shape)
    return counted.clip(0, WHITE).astype(np.uint16)


def draw_set(folder: Path, missing: float) -> Path:
    """Write COUNT pictures of SLIDES slides and metadata.csv; each value is left blank with the probability `missing`."""
    if (folder / "metadata.csv").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    numbers, blanks = np.random.default_rng(0), np.random.default_rng(1)
    offsets = numbers.normal(0, 30, SLIDES)
    rows = [["file_name", *CONTROLS, "slide_id", "operator"]]
    for index in range(COUNT):
        slide = index % SLIDES
        stain = str(numbers.choice(list(STAINS)))
        magnification, exposure = 10 * 6 ** numbers.random(), numbers.uniform(40, 200)
        pixels = draw(numbers, stain, magnification, exposure, offsets[slide])
        np.save(folder / f"{index:05d}.npy", pixels.transpose(1, 2, 0))
        values = [stain, f"{magnification:.1f}", f"{exposure:.1f}"]
        shown = ["" if blanks.random() < missing else value for value in values]
        rows.append([f"{index:05d}.npy", *shown, f"S{slide:02d}", "AB"])
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def recipe_for(pictures: Path, name: str) -> dict[str, Any]:
    """Return the recipe on pictures, with its cache."""
    recipe: dict[str, Any] = json.loads(json.dumps(RECIPE))
    recipe["data"]["source"]["path"] = str(pictures)
    return {**recipe, "name": name, "cache": {"path": str(OUT / f"cache-{name}")}}


class Reader:
    """Linear regression of the values of one column on what pictures measure, fitted on real pictures."""

    def __init__(self, pixels: torch.Tensor, values: list[Any]) -> None:
        self.words = sorted(set(values)) if isinstance(values[0], str) else None
        wanted = np.array([[value == word for word in self.words] for value in values] if self.words else values, dtype=float)
        measured = measure(pixels)
        self.mean, self.std = measured.mean(0), measured.std(0) + 1e-9
        inputs = self._inputs(measured)
        self.weights = np.linalg.solve(inputs.T @ inputs + 0.01 * len(inputs) * np.eye(inputs.shape[1]), inputs.T @ wanted)

    def _inputs(self, measured: np.ndarray) -> np.ndarray:
        scaled = (measured - self.mean) / self.std
        return np.concatenate([np.ones((len(scaled), 1)), scaled, scaled**2], axis=1)

    def score(self, pixels: torch.Tensor, values: list[Any]) -> float:
        """How well the values of pictures are found: accuracy for words, rank correlation for numbers."""
        found = self._inputs(measure(pixels)) @ self.weights
        if self.words is None:
            return rank_correlation(found, np.array(values, dtype=float))
        return float(np.mean([self.words[index] == value for index, value in zip(found.argmax(1), values, strict=True)]))


def measure(pixels: torch.Tensor) -> np.ndarray:
    """Return log mean, deviation and steps over 1, 2 and 4 pixels of each channel and of their sum, [B, 30]."""
    images = pixels.double() / 255
    images = torch.cat([images, images.mean(1, keepdim=True)], dim=1)
    found = [images.mean((2, 3)), images.std((2, 3))]
    for lag in (1, 2, 4):
        across, down = images[..., lag:] - images[..., :-lag], images[..., lag:, :] - images[..., :-lag, :]
        found.append((across.abs().mean((2, 3)) + down.abs().mean((2, 3))) / 2)
    return torch.cat(found, dim=1).add(1e-3).log().numpy()


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the ranks of two sets of numbers."""
    return float(np.corrcoef(one.argsort().argsort(), other.argsort().argsort())[0, 1])


def read_all(source: Source, data: DataConfig) -> tuple[torch.Tensor, list[int]]:
    """Return every picture of a source as the model sees it, and its index."""
    reads = read_batches(source, data.transform, seed=0, position_ranges=[range(len(source))], workers=0)
    (batch,) = reads
    return batch.pixels, list(batch.indices)


def fit_classifiers(data: DataConfig) -> dict[str, Path]:
    """Fit what `ldm evaluate fit-features DATA column=NAME` fits, which control_effect reads samples with."""
    folders = {}
    for column in CONTROLS:
        network = SmallNetworkConfig(size_px=SIDE, width=16, dim=32, statistics=True)
        config = FitConfig(network=network, pictures=SHOWN, batch_size=16, learning_rate=4e-3, column=column, by="slide_id")
        folders[column] = OUT / "readers" / column
        if not is_fitted(folders[column], config):
            fit_features(data, folders[column], config)
    return folders


def in_range(held_out: Source, known: Columns, index: int) -> bool:
    """Tell whether training saw smaller and larger numbers than those of a held-out picture."""
    for column in ("magnification", "exposure_ms"):
        value, seen = float(columns_of(held_out)[column].values[index]), known[column].values
        if not np.nanmin(seen) <= value <= np.nanmax(seen):
            return False
    return True


def values_of(source: Source, indices: list[int]) -> dict[str, list[Any]]:
    """Return the values of pictures in every column."""
    columns = columns_of(source)
    return {column: [columns[column].at(index) for index in indices] for column in CONTROLS}


def sample_as(run: ldm.Run, values: Mapping[str, list[Any]]) -> torch.Tensor:
    """Sample one picture for each row of values, as `ldm sample RUN stain=HE magnification=20 exposure_ms=90` does."""
    loaded = open_run(run.path)
    rows = range(len(next(iter(values.values()))))
    requests = [SampleRequest(row, controls={column: str(values[column][row]) for column in values}) for row in rows]
    return sample_pixels(loaded, requests, loaded.recipe.sampling)


def sheet(run: ldm.Run, held_out: Source, pixels: torch.Tensor, values: Mapping[str, list[Any]], path: Path) -> None:
    """Write one picture: of each column a row of real pictures nearest to each value, and one of samples of equal noise."""
    tiles, captions, headers = [], [], []
    most = max(map(len, SWEPT.values()))
    blank = torch.full((3, SIDE, SIDE), 255, dtype=torch.uint8)
    for column, swept in SWEPT.items():
        real = []
        for value in swept:
            near = [one == value if column == "stain" else -abs(float(one) - float(value)) for one in values[column]]
            real.append(as_shown(pixels[int(np.argmax(near))]))
        sampled = [as_shown(run.sample(count=1, seed=3, progress=False, **{column: value}).pixels[0]) for value in swept]
        for what, row in (("real", real), ("sample", sampled)):
            tiles += row + [blank] * (most - len(swept))
            captions += swept + [""] * (most - len(swept))
            headers.append(f"{column}, {what}")
    save_png(path, grid(tiles, most, captions=captions, row_headers=headers, scale=4))


def main() -> None:
    """Draw, encode, train, sample and read; with all values, and with a third of them missing."""
    sets = {name: draw_set(OUT / name, missing) for name, missing in {"whole": 0.0, "third-missing": 1 / 3}.items()}
    data = ldm.load_recipe(recipe_for(sets["whole"], "whole")).data
    seen, held_out = open_data(data, "train"), open_data(data, "held_out")
    pixels, indices = read_all(seen, data)
    learned = values_of(seen, indices)
    readers = {column: Reader(pixels, learned[column]) for column in CONTROLS}
    pixels, indices = read_all(held_out, data)
    asked = [row for row, index in enumerate(indices) if in_range(held_out, columns_of(seen), index)][:ASKED]
    real, values = pixels[asked], values_of(held_out, [indices[row] for row in asked])
    table: dict[str, Any] = {"pictures": COUNT, "asked": len(asked)}
    table["real held-out"] = {column: readers[column].score(real, values[column]) for column in CONTROLS}
    print(json.dumps(table), flush=True)
    classifiers = fit_classifiers(data)
    for name in TRAINED:
        recipe = recipe_for(sets[name], name)
        print(ldm.survey(recipe), flush=True)
        ldm.encode(recipe, *SETTINGS)
        run = ldm.train(recipe, *SETTINGS, out=OUT / name / "run")
        samples = sample_as(run, values)
        found = {column: readers[column].score(samples, values[column]) for column in CONTROLS}
        shares = {column: found[column] / table["real held-out"][column] for column in CONTROLS}
        table[name] = {"samples": found, "share of real": shares}
        sheet(run, held_out, real, values, OUT / f"{name}.png")
        print(json.dumps(table[name]), flush=True)
        table[name]["evaluated"] = {column: evaluated(run, column, classifiers[column]) for column in CONTROLS}
    (OUT / "results.json").write_text(json.dumps(table, indent=1))
    print(json.dumps(table, indent=1))


def evaluated(run: ldm.Run, column: str, classifier: Path) -> dict[str, float]:
    """What `ldm evaluate` measures of a control."""
    settings = {"control": column, "values": SWEPT[column], "pictures": MEASURED}
    metrics = [{"kind": kind, **settings} for kind in ("control_effect", "control_influence")]
    found = run.evaluate(metrics=metrics, extractors=[classifier], n=MEASURED, cache=None, progress=False)
    return {result.estimate.name: result.estimate.value for result in found.results}


if __name__ == "__main__":
    main()
