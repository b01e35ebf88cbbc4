"""Your own metadata as controls: microscope pictures of five channels with stain, magnification and exposure.

python examples/own_metadata.py

The pictures are drawn here, 16-bit arrays with a metadata.csv as a laboratory might have them (TIFF would do as well). A model is trained with each column
as a control, once with all values and once with a third of them missing. Does it obey? A reader, fitted on real pictures alone,
reads each column off samples that were asked for the values of held-out slides, and off those held-out slides themselves.
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
from open_ldm.controls import Metadata
from open_ldm.core.display import as_shown
from open_ldm.core.pictures import grid, save_png
from open_ldm.data.columns import Columns, columns_of
from open_ldm.data.loader import DataConfig, open_data, read_batches
from open_ldm.data.sample import Source
from open_ldm.evaluation.features.classifier import ClassifierConfig, ClassifierExtractor
from open_ldm.evaluation.features.classifier_fit import FitConfig, is_fitted
from open_ldm.evaluation.features.small_network import SmallNetworkConfig
from open_ldm.evaluation.readers.column import ColumnReader

OUT = Path(os.environ.get("OUT", "runs/own-metadata"))
COUNT = int(os.environ.get("COUNT", "3000"))  # pictures that are drawn
SHOWN = int(os.environ.get("SHOWN", "12000"))  # pictures that each reader is shown while it is fitted
ASKED = int(os.environ.get("ASKED", "240"))  # held-out pictures whose values are asked for
MEASURED = int(os.environ.get("MEASURED", "32"))  # seeds of which the effect of each control is measured
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
    "denoiser": {"kind": "dit", "size": "XS", "depth": 3, "width": 96, "heads": 3, "patch": 2},
    "training": {
        "samples": 36000,
        "batch_size": 32,
        "optimizer": {"learning_rate": 2e-3, "betas": [0.9, 0.95], "warmup_samples": 1200, "decay": "cosine"},
        "ema": {"decay": 0.998},
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


def fit_readers(data: DataConfig) -> dict[str, ColumnReader]:
    """Fit one classifier per column on the real pictures of the training slides."""
    readers = {}
    for column, control in CONTROLS.items():
        network = SmallNetworkConfig(size_px=SIDE, width=16, dim=32)
        config = FitConfig(network=network, pictures=SHOWN, batch_size=16, column=column, bins=12, by="slide_id")
        if not is_fitted(OUT / "readers" / column, config):
            fit_features(data, OUT / "readers" / column, config)
        extractor = ClassifierExtractor(ClassifierConfig(path=OUT / "readers" / column), torch.device("cpu"))
        readers[column] = ColumnReader(extractor, None if control.values else control)
    return readers


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the ranks of two sets of numbers."""
    return float(np.corrcoef(one.argsort().argsort(), other.argsort().argsort())[0, 1])


def score(reader: ColumnReader, pixels: torch.Tensor, values: list[Any]) -> float:
    """How well the reader finds the values in pictures: accuracy for words, rank correlation for numbers."""
    found = reader.read(pixels)
    if reader.reads_numbers:
        return rank_correlation(found[:, 0].numpy(), np.array(values, dtype=float))
    names = reader.extractor.class_names
    return float(np.mean([names[index] == value for index, value in zip(found.argmax(1).tolist(), values, strict=True)]))


def in_range(held_out: Source, known: Columns, index: int) -> bool:
    """Tell whether training saw smaller and larger numbers than those of a held-out picture."""
    for column in ("magnification", "exposure_ms"):
        value, seen = float(columns_of(held_out)[column].values[index]), known[column].values
        if not np.nanmin(seen) <= value <= np.nanmax(seen):
            return False
    return True


def held_out_values(held_out: Source, indices: list[int]) -> dict[str, list[Any]]:
    """Return the values of held-out pictures in every column."""
    columns = columns_of(held_out)
    return {column: [columns[column].at(index) for index in indices] for column in CONTROLS}


def sample_as(run: ldm.Run, values: Mapping[str, list[Any]]) -> torch.Tensor:
    """Sample one picture for each row of values."""
    rows = range(len(next(iter(values.values()))))
    return torch.cat(
        [
            run.sample(count=1, seed=row, progress=False, **{column: values[column][row] for column in values}).pixels
            for row in rows
        ]
    )


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
    sets = {"whole": draw_set(OUT / "whole", 0.0), "third-missing": draw_set(OUT / "third-missing", 1 / 3)}
    whole = ldm.load_recipe(recipe_for(sets["whole"], "whole")).data
    readers = fit_readers(whole)
    held_out = open_data(whole, "held_out")
    known = columns_of(open_data(whole, "train"))
    indices = [index for index in range(len(held_out)) if in_range(held_out, known, index)][:ASKED]
    reads = read_batches(held_out, whole.transform, seed=0, position_ranges=[range(len(held_out))], workers=0)
    (batch,) = reads
    order = {index: row for row, index in enumerate(batch.indices)}
    real = batch.pixels[[order[index] for index in indices]]
    values = held_out_values(held_out, indices)
    table: dict[str, Any] = {"pictures": COUNT, "asked": len(indices)}
    table["real"] = {column: score(readers[column], real, values[column]) for column in CONTROLS}
    for name, pictures in sets.items():
        recipe = recipe_for(pictures, name)
        print(ldm.survey(recipe))
        ldm.encode(recipe, *SETTINGS)
        run = ldm.train(recipe, *SETTINGS, out=OUT / name / "run")
        samples = sample_as(run, values)
        found = {column: score(readers[column], samples, values[column]) for column in CONTROLS}
        table[name] = {column: {"samples": found[column], "of real": found[column] / table["real"][column]} for column in found}
        sheet(run, held_out, real, values, OUT / f"{name}.png")
        effects = {}
        for column in CONTROLS:
            settings = {"control": column, "values": SWEPT[column], "pictures": MEASURED}
            metrics = [{"kind": kind, **settings} for kind in ("control_effect", "control_influence")]
            measured = run.evaluate(
                metrics=metrics, extractors=[OUT / "readers" / column], n=MEASURED, cache=None, progress=False
            )
            effects[column] = {one.estimate.name: one.estimate.value for one in measured.results}
        table[name]["evaluated"] = effects
    (OUT / "results.json").write_text(json.dumps(table, indent=1))
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
