"""Measure one arm of a study: the same protocol, pictures, prompts and seeds for every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from open_ldm.commands.evaluate.config import changed
from open_ldm.commands.evaluate.evaluate import evaluate_run
from open_ldm.commands.inspect_tokens import inspect_tokens
from open_ldm.conditioning.semantic import NoSemantic, TextSemantic
from open_ldm.core.display import as_shown
from open_ldm.core.errors import OpenLdmError
from open_ldm.core.hashes import hash_content
from open_ldm.core.pictures import grid, save_png, to_pixels
from open_ldm.core.plain_data import parse_json, to_json
from open_ldm.data.holdout import PartName
from open_ldm.evaluation.features import FeatureConfig
from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.runs.preview import evenly
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import open_data
from open_ldm.studies.agreement import agreement_with, captions_of_lengths, captions_to_check
from open_ldm.studies.results import Measured, Value, at
from open_ldm.studies.study import Arm, Protocol

SHOWN = "shown.png"
HELD_OUT_PART: PartName = "held_out"
"""The reference of a protocol that compares samples with the pictures that the arms hold out."""
_SEED = 0
_SWEPT = 3
"""Prompts in a grid over a control."""


@dataclass(frozen=True)
class Evaluator:
    """Measures the arms of one setting. `extractors`: what sees the pictures; `cache`: where the data's statistics are kept."""

    protocol: Protocol
    extractors: tuple[FeatureConfig, ...]
    cache: Path

    def named(self, arm: Arm) -> str:
        """Hash of everything that decides how an arm is measured."""
        features = self.protocol.features
        settings = features.model_dump(mode="json") if isinstance(features, FitConfig) else dict(features or {})
        plain = asdict(Protocol())
        differing = {name: value for name, value in asdict(replace(self.protocol, features={})).items() if value != plain[name]}
        return hash_content([differing, settings, dict(arm.sampling), dict(arm.controls)])[:12]

    def measure(self, name: str, arm: Arm, seed: int, model: Path, folder: Path) -> Measured:
        """Measure `model`, a run folder or one checkpoint in it; pictures for the report go into `folder`."""
        protocol = self.protocol
        sampling = changed(protocol.sampling, arm.sampling)
        held_out = protocol.reference == HELD_OUT_PART
        found = evaluate_run(
            model,
            load_run(model).recipe.data if held_out else protocol.reference,
            protocol.metrics,
            part=HELD_OUT_PART if held_out else "train",
            extractors=self.extractors,
            n=protocol.pictures,
            seed=_SEED,
            against_n=protocol.against,
            sampling=sampling,
            controls=arm.controls,
            out=folder,
            cache=self.cache,
        )
        values: dict[str, Value] = {}
        for result in found.results:  # of several extractors the first counts
            one = result.estimate
            values.setdefault(one.name, Value(one.value, one.low, one.high, result.protocol.id))
        if protocol.noise_levels and found.held_out:
            values |= _by_noise_level(found.held_out)
        run = load_run(model)
        settings = SamplingConfig.model_validate(changed(run.recipe.sampling.model_dump(mode="json"), sampling))
        if protocol.agreement:
            values |= self._agreement(run, settings, arm.controls)
        _show(run, settings, arm.controls, protocol, folder)
        tokens = _tokens(model, protocol.tokens)
        if tokens:
            values |= {
                name: Value(tokens[name], tokens[name], tokens[name], "tokens")
                for name in ("attention_padding", "gradient_padding")
            }
        return Measured(name, seed, run.samples_seen, values, dict(found.refused), tokens, self.named(arm))

    def _agreement(self, run: LoadedRun, settings: SamplingConfig, controls: Mapping[str, str]) -> dict[str, Value]:
        """Sample captions and read the pictures back, each group of lengths on its own where the protocol has groups."""
        data, count = run.recipe.data, self.protocol.agreement
        groups = {name: captions_of_lengths(data, words, count) for name, words in self.protocol.by_length.items()}
        values: dict[str, Value] = {}
        for group, captions in (groups or {"": captions_to_check(data, count)}).items():
            requests = [SampleRequest(_SEED + i, caption, controls) for i, caption in enumerate(captions)]
            values |= agreement_with(captions, _sample(run, settings, requests), group)
        return values


def _by_noise_level(held_out: Mapping[str, Any]) -> dict[str, Value]:
    """Return the held-out loss at each time of an evaluation, which keeps no interval of them."""
    levels = zip(held_out["times"], held_out["levels"], strict=True)
    return {at("held_out_loss", f"t={time:g}"): Value(loss, loss, loss, "noise level") for time, loss in levels}


def _tokens(model: Path, pictures: int) -> dict[str, Any]:
    if not pictures:
        return {}
    try:
        return inspect_tokens(model, pictures).influence.to_json()
    except OpenLdmError:
        return {}  # a model without padding, or without attention to the text, has nothing to tell


def prompts_of(run: LoadedRun, count: int) -> list[str | None]:
    """What the pictures of the grids show: captions or classes, evenly taken from the data, the same for every arm."""
    semantic = run.recipe.conditioning.semantic
    if isinstance(semantic, NoSemantic):
        return [None] * count
    if not isinstance(semantic, TextSemantic):
        names = evenly(run.known.facts.class_names, count)
    elif run.recipe.preview.prompts:
        names = list(run.recipe.preview.prompts)
    else:
        names = evenly(sorted(set(open_data(run.recipe.data).captions())), count)
    return [names[i % len(names)] for i in range(count)]


def _show(run: LoadedRun, settings: SamplingConfig, controls: Mapping[str, str], protocol: Protocol, folder: Path) -> None:
    """Strips of pictures without gaps, which the report puts together: the prompts, and each sweep row by row."""
    prompts = prompts_of(run, protocol.shown)
    requests = [SampleRequest(_SEED + i, shows, controls) for i, shows in enumerate(prompts)]
    save_strip(folder / SHOWN, _sample(run, settings, requests), len(requests), prompts)
    options = [control.asked_as for control in run.recipe.conditioning.controls]
    for sweep in protocol.sweeps:
        path = folder / sweep_file(sweep.control)
        if sweep.control not in options:
            path.unlink(missing_ok=True)
            continue
        rows = list(enumerate(prompts))[:_SWEPT]
        requests = [
            SampleRequest(_SEED + i, shows, {**controls, sweep.control: each}) for i, shows in rows for each in sweep.values
        ]
        save_strip(path, _sample(run, settings, requests), len(sweep.values), [shows for _, shows in rows])


def _sample(run: LoadedRun, settings: SamplingConfig, requests: Sequence[SampleRequest]) -> Tensor:
    images = run.generator.images(run.build_inputs(requests), [request.seed for request in requests], settings)
    return as_shown(to_pixels(images), run.recipe.data.display)


def sweep_file(control: str) -> str:
    """Name of the strip of a sweep."""
    return f"sweep-{control}.png"


@dataclass(frozen=True)
class Strip:
    """Pictures uint8 [N, 3, H, W], row by row, `columns` a row; `words`: of each column, or of each row of a sweep."""

    pixels: Tensor
    columns: int
    words: tuple[str, ...]


def save_strip(path: Path, pixels: Tensor, columns: int, words: Sequence[str | None]) -> None:
    """Save pictures side by side, and a JSON file with their layout and words."""
    save_png(path, grid(pixels, columns, scale=1, gap=0))
    layout = {"columns": columns, "words": [each or "" for each in words], "size_px": list(pixels.shape[-2:])}
    path.with_suffix(".json").write_text(to_json(layout), encoding="utf-8")


def read_strip(path: Path) -> Strip | None:
    """Read what `save_strip` wrote; None when there is no such file."""
    if not path.is_file():
        return None
    layout = parse_json(path.with_suffix(".json").read_text(encoding="utf-8"))
    height, width = layout["size_px"]
    with Image.open(path) as image:
        whole = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    rows = whole.shape[1] // height
    cut = whole.reshape(3, rows, height, layout["columns"], width).permute(1, 3, 0, 2, 4)
    return Strip(cut.reshape(-1, 3, height, width), layout["columns"], tuple(layout["words"]))


def extractor_settings(protocol: Protocol, fitted: Path) -> list[dict[str, Any]]:
    """The settings of what sees the pictures; a classifier that the study fits lies in the folder `fitted`."""
    features = protocol.features
    first = {"kind": "classifier", "path": str(fitted)} if isinstance(features, FitConfig) else features
    return [dict(each) for each in (first, *protocol.also) if each is not None]
