"""A run as an object, and measuring: what can be done with a model that is there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from open_ldm.api.arguments import Place, several
from open_ldm.api.asked import asked_for, solved, together
from open_ldm.api.boundary import in_python
from open_ldm.api.history import History, read_curves
from open_ldm.api.recipes import Override, RecipeLike, as_overrides, load_recipe
from open_ldm.api.samples import Samples
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import is_checkpoint, run_folder_of, samples_seen_of
from open_ldm.commands import sample as sampling
from open_ldm.commands.evaluate import evaluate as evaluating
from open_ldm.commands.evaluate.found import Evaluation
from open_ldm.commands.evaluate.options import config_from
from open_ldm.commands.evaluate.reference import CACHE
from open_ldm.core.config import read_yaml
from open_ldm.core.device import DeviceName, device_name
from open_ldm.core.errors import ConfigError
from open_ldm.data.holdout import PartName
from open_ldm.evaluation.features import FeatureConfig
from open_ldm.run_folder.folder import RunFolder, is_run
from open_ldm.run_folder.history import read_history
from open_ldm.runs.begun import resolved_settings
from open_ldm.runs.load import LoadedRun
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.sampling.requests import control_texts
from open_ldm.sources.loader import DataConfig


class Run:
    """A run folder. `train`, `transfer`, `import_weights` and `load_run` give one.

    Nothing is loaded before it is needed; after more training, here or in another process, the newest weights are used. A run
    may stand wherever the path of a run is taken.

    Attributes:
        path: The run folder, or the checkpoint inside it that `load_run` was given.
        device: Where its model samples: auto, cpu, cuda or mps.
    """

    @in_python
    def __init__(self, path: Run | Place, device: DeviceName | torch.device = "auto") -> None:
        self.path = Path(path)
        self.device: DeviceName = device_name(device)
        self._loaded: tuple[tuple[str, ...], LoadedRun] | None = None

    @property
    def folder(self) -> Path:
        """The run folder, also where `path` is a checkpoint inside it."""
        return run_folder_of(self.path)

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe, as config.yaml holds it; where that is gone, as the newest checkpoint does."""
        config = RunFolder(self.folder).config
        return recipe_from(resolved_settings(self.folder) or read_yaml(config), (), source=str(config))

    @property
    def samples_seen(self) -> int:
        """How many samples the model has learned from; of a run in stages, over all of them."""
        if is_checkpoint(self.path):
            return samples_seen_of(self.path.name)
        return sum(read_history(part.path).samples_seen for part in RunFolder(self.folder).parts)

    @property
    def report(self) -> Path:
        """The page for people, report.html."""
        return RunFolder(self.folder).report

    @property
    def state(self) -> str:
        """Where the run stands: `finished: all samples seen`, `running`, `preempted: stopped by SIGINT and saved`, ..."""
        state = read_history(self.folder).state
        return f"{state.word}: {state.reason}" if state.reason else state.word

    @property
    def history(self) -> History:
        """Loss and other curves, read anew each time. Empty for imported weights."""
        return read_curves(self.folder)

    @in_python
    def sample(
        self,
        prompts: str | Sequence[str] | None = None,
        classes: str | int | Sequence[str | int] | None = None,
        *,
        class_index: int | Sequence[int] | None = None,
        count: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        solver: str | None = None, spacing: str | None = None,
        semantic_scale: float | None = None, control_scale: float | None = None,
        guide: Run | Place | None = None,
        guide_scale: float | None = None, rescale: float | None = None,
        negative_prompt: str | None = None,
        sweep: str | None = None,
        start: Place | None = None, strength: float | None = None,
        batch_size: int | None = None,
        yes: bool = False, view: str | None = None,
        progress: bool = True,
        controls: Mapping[str, str | float | None] | None = None,
        **named_controls: str | float | None,
    ) -> Samples:  # fmt: skip
        """Sample pictures from the averaged weights of the newest good checkpoint.

        Args:
            prompts: A caption or several, for a model of captions.
            classes: Names of classes, or indices where no name is a number; without any every class of at most 32.
            class_index: Classes by their index, after those of `classes`.
            count: Pictures of each prompt or class, at least 1; 4 by default, and 1 of each variant of a sweep.
            seed: Of the first picture, at least 0; the next has the next seed. The same seed starts from the same noise.
            steps: Solver steps; None takes the recipe's, as for all settings below.
            solver: ddpm, ddim, euler, heun or dpmpp_2m.
            spacing: Of the steps: trailing, leading, linspace, ldm_uniform, time_uniform or log_snr.
            semantic_scale: Guidance towards the prompt or class, at least 0; 1 is none.
            control_scale: Guidance towards the controls, at least 0; 1 is none.
            guide: A run or checkpoint of a weaker model of the same data, to lead away from (autoguidance).
            guide_scale: How far, at least 0; 1 is none.
            rescale: Share in [0, 1] of the contrast that guidance added to be taken back.
            negative_prompt: What guidance leads away from, in place of no caption.
            sweep: One caption with choices, `"a {red,blue} {circle,square}"`: a table of all variants from the same seeds.
            start: A picture file to start from instead of noise.
            strength: Time in (0, 1] that it is noised to, 0.6 by default; 1 leaves nothing of it.
            batch_size: Pictures at once, at least 1: fewer need less memory; a picture stays the same up to rounding.
            yes: Sample a sweep of more than 1,000 pictures too.
            view: Shape of the pictures of a model that was trained in buckets: HEIGHTxWIDTH in pixels, or WIDTH:HEIGHT.
            progress: Show a progress line.
            controls: Values of control conditions by their names; so those called like an argument, such as `{"count": 3}`.
            **named_controls: The same as arguments: `size="96x96"`, `crop="0,3"`, `flip=1`, `aspect="4:3"`, `colour="20,45"`,
                `quality=90`, `turn=90`; columns of metadata by their names, such as `magnification=40`.

        Returns:
            The pictures, with `pixels`, `images()`, `grid()` and `save()`; a notebook shows their grid.

        Raises:
            OpenLdmError: There is no checkpoint, or its model does not know a prompt, a class, a control or a value.
        """
        values = together(controls, named_controls)
        what = asked_for(prompts, classes, class_index, values, count, seed, sweep, negative_prompt, yes, view, start, guide)
        asked = solved(what, steps, solver, spacing, strength, semantic_scale, control_scale, guide_scale, rescale, batch_size)
        return Samples.like(sampling.sample(self._load(), asked, silent=not progress))

    def evaluate(self, against: Against = None, **options: Unpack[EvaluateOptions]) -> Evaluation:
        """Measure the run, as `open_ldm.evaluate(run, against, ...)` does.

        Args:
            against: Data to measure against; None is the run's own.
            **options: As `open_ldm.evaluate` describes them.

        Returns:
            The results; printed, they are a table.

        Raises:
            OpenLdmError: Nothing could be measured, or an option does not fit.
        """
        return evaluate(self, against, **options)

    def _load(self) -> LoadedRun:
        """Return the model, loaded anew when another checkpoint has been saved since."""
        names = tuple(f"{part.path}/{name}" for part in RunFolder(self.folder).parts for name in _names(part))
        if self._loaded is None or self._loaded[0] != names:
            self._loaded = names, sampling.open_run(self.path, self.device)
        return self._loaded[1]

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.samples_seen:,} samples seen, {self.state}>"


@in_python
def load_run(path: Run | Place, device: DeviceName | torch.device = "auto") -> Run:
    """Open a run, finished or not.

    Args:
        path: A run folder, or one checkpoint inside it (`runs/a/checkpoints/samples-...`).
        device: Where its model samples: auto, cpu, cuda or mps, or a device of torch.

    Returns:
        The run; its weights are loaded when it samples first.

    Raises:
        OpenLdmError: There is no run in that place.
    """
    run = Run(path, device)
    folder = RunFolder(run.folder)
    if not is_run(folder.path) or (run.folder / "autoencoder").is_dir() or not run.path.is_dir():
        raise ConfigError(f"no run of a diffusion model in {run.path}", needed="a folder that train made", fix="check the path")
    return run


def _names(part: RunFolder) -> list[str]:
    return list(CheckpointFolder(part.checkpoints).names())


Against = Run | RecipeLike | DataConfig | None
"""Data to measure against: a run's, a recipe's, a folder of pictures or shards; None is the run's own."""


Metric = str | Mapping[str, Any]
Extractor = Place | Mapping[str, Any] | FeatureConfig


class EvaluateOptions(TypedDict, total=False):
    """The options of `evaluate`, where they are described."""

    metrics: Metric | Sequence[Metric]
    extractors: Extractor | Sequence[Extractor]
    n: int | None
    seed: int
    controls: Mapping[str, str | float | None] | None
    settings: Override | Sequence[Override]
    part: PartName
    out: Place | None
    cache: Place | None
    device: DeviceName | torch.device
    progress: bool


@in_python
def evaluate(
    given: Run | Place,
    against: Against = None,
    *,
    metrics: Metric | Sequence[Metric] = evaluating.DEFAULT_METRICS,
    extractors: Extractor | Sequence[Extractor] = (),
    n: int | None = None,
    seed: int = 0,
    controls: Mapping[str, str | float | None] | None = None,
    settings: Override | Sequence[Override] = (),
    part: PartName = "train",
    out: Place | None = None,
    cache: Place | None = CACHE,
    device: DeviceName | torch.device = "auto",
    progress: bool = True,
) -> Evaluation:
    """Measure pictures sampled from a run, or pictures that are there, against data.

    Args:
        given: A run, its folder or one checkpoint inside it; or a folder or shards of pictures.
        against: Data to measure against: a run, a recipe, a folder, shards, an .npz file of pictures; a run's own by default.
        metrics: Names, as `ldm evaluate --help` lists them, such as `"fid"` or `"content_change"`; or mappings of `kind` and
            settings.
        extractors: What sees the pictures: a folder of `ldm evaluate fit-features`, Inception's weights file, a DINOv2 or CLIP
            folder, `"random"`, or a mapping of `kind` and settings. Every metric is measured by each that can.
        n: How many pictures, at least 1; None samples 1,000, and reads given ones all, up to 50,000.
        seed: Of the first picture; the next has the next seed.
        controls: Control values of all pictures, such as `{"size": "256x256"}`.
        settings: Other settings of the evaluation, such as `"sampling.steps=20"` or `{"metrics.kid.subset_size": 100}`.
        part: train or held_out: which part of data with a holdout.
        out: Where evaluation.json is written; the run folder by default, and for pictures nowhere.
        cache: Where the statistics of the data are kept; None keeps nothing.
        device: auto, cpu, cuda or mps, or a device of torch.
        progress: Show how far it is.

    Returns:
        What was found: it prints as a table, `results` are its numbers with intervals, `to_json()` is plain data.

    Raises:
        OpenLdmError: A metric, an extractor or the data cannot be used, or nothing could be measured. StoppedError when it was
            interrupted, with what was measured kept.
    """
    config = config_from(
        several(metrics), several(extractors), control_texts(controls or {}), as_overrides(several(settings)), n=n, seed=seed
    )
    return evaluating.evaluate(
        Path(given),
        _data(against),
        config,
        part=part,
        out=None if out is None else Path(out),
        cache=None if cache is None else Path(cache),
        device=device_name(device),
        silent=not progress,
    )


def _data(against: Against) -> DataConfig | str | Path | None:
    """Data as `commands.evaluate` takes them."""
    if isinstance(against, Run):
        return against.recipe.data
    if isinstance(against, Mapping | Recipe):
        return load_recipe(against).data
    return os.fspath(against) if isinstance(against, os.PathLike) else against
