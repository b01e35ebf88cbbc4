"""Sampling pictures from a model: seeds and conditions in, images out. Picture i depends on its own seed alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from open_ldm.autoencoders import Autoencoder, LatentStats
from open_ldm.conditioning import ConditionInputs
from open_ldm.core import seeds
from open_ldm.core.config import Config, validate
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.core.later_settings import without_defaults
from open_ldm.core.out_of_memory import naming_lack_of_memory
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.process.prediction import Denoised
from open_ldm.sampling.autoguidance import with_guide
from open_ldm.sampling.guidance import Branch, DenoiseBranches, GuidanceConfig, guided
from open_ldm.sampling.solvers import SOLVERS, Denoise, OnStep
from open_ldm.sampling.start import Start
from open_ldm.sampling.time_grid import Spacing, time_grid
from open_ldm.sampling.watch import Watch
from open_ldm.text.tokens import TextTokens

SolverName = Literal["ddpm", "ddim", "euler", "heun", "dpmpp_2m"]
_LATER_SETTINGS = ("spacing", "time_shift")


class SamplingConfig(Config):
    """How pictures are sampled.

    Attributes:
        solver: One of sampling/solvers.py.
        steps: How many steps it takes.
        spacing: How their times are spaced (sampling/time_grid.py); published samplers differ in it.
        time_shift: k > 0; every time t becomes k t / (1 + (k - 1) t). For rectified flow: 3 in Stable Diffusion 3.
        guidance: How strongly conditions are followed.
        batch_size: Pictures at once: it decides the memory that is used and changes no picture.
    """

    solver: SolverName = "heun"
    steps: int = Field(default=30, ge=1)
    spacing: Spacing = "trailing"
    time_shift: float = Field(default=1.0, gt=0)
    guidance: GuidanceConfig = GuidanceConfig()
    batch_size: int = Field(default=64, ge=1)

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), _LATER_SETTINGS)


def changed_settings(
    config: SamplingConfig,
    steps: int | None = None,
    solver: str | None = None,
    semantic_scale: float | None = None,
    control_scale: float | None = None,
    spacing: str | None = None,
    batch_size: int | None = None,
    guide_scale: float | None = None,
    rescale: float | None = None,
) -> SamplingConfig:
    """Return sampling settings with the given changes; None changes nothing. Raises ConfigError for a value out of range."""
    for option, given, possible in (("--solver", solver, get_args(SolverName)), ("--spacing", spacing, get_args(Spacing))):
        if given is not None and given not in possible:
            raise ConfigError(f"{option} {given!r} is unknown", needed=nearest(given, possible))
    content = config.model_dump()
    guidance = content["guidance"]
    guidance |= _given(semantic_scale=semantic_scale, control_scale=control_scale, guide_scale=guide_scale)
    if guidance["semantic_scale"] == guidance["control_scale"] == guidance.get("guide_scale", 1) == 1:
        content["guidance"] = guidance = {}  # without guidance its interval and schedule mean nothing
    guidance |= _given(rescale=rescale)
    content |= _given(steps=steps, solver=solver, spacing=spacing, batch_size=batch_size)
    return validate(SamplingConfig, content, source="ldm sample")


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _fewer(pictures: int) -> str:
    if pictures == 1:
        return "a device with more memory"
    return f"sampling.batch_size={pictures // 2}, or ldm sample --batch {pictures // 2}"


@dataclass(frozen=True, eq=False)
class _Path:
    """The times that are visited, and the picture that they begin at, if any."""

    times: Tensor
    start: Start | None


class Generator:
    """Samples pictures from a model.

    Args:
        model: In evaluation mode, on the device where pictures are sampled.
        autoencoder: Decodes latents.
        stats: What latents are normalised by.
        latent_size: (height, width) of the latents.
        device: Where pictures are sampled; None for where the model lies now.
        guide: A weaker model for autoguidance, of the same latents, conditions and noise, on the same device.
    """

    def __init__(
        self,
        model: DiffusionModel,
        autoencoder: Autoencoder,
        stats: LatentStats,
        latent_size: tuple[int, int],
        device: torch.device | None = None,
        guide: DiffusionModel | None = None,
    ) -> None:
        self.model, self.autoencoder, self.stats, self.latent_size = model, autoencoder, stats, latent_size
        self.device = next(model.parameters()).device if device is None else device
        self.guide = guide
        self.bounds = self._latent_bounds()

    def of_size(self, latent_size: tuple[int, int]) -> Generator:
        """Return a generator of the same model that samples latents of another (height, width)."""
        return Generator(self.model, self.autoencoder, self.stats, latent_size, self.device, self.guide)

    def guided_by(self, guide: DiffusionModel) -> Generator:
        """Return a generator of the same model with a guide."""
        return Generator(self.model, self.autoencoder, self.stats, self.latent_size, self.device, guide)

    def images(
        self,
        inputs: ConditionInputs,
        picture_seeds: Sequence[int],
        config: SamplingConfig,
        on_step: Callable[[int], None] | None = None,
        negative: TextTokens | None = None,
        start: Start | None = None,
        on_estimate: OnStep | None = None,
    ) -> Tensor:
        """Sample images.

        Args:
            inputs: Conditions, one row for each picture.
            picture_seeds: Seed of each picture: of its start, and of the noise of random solvers.
            config: How pictures are sampled.
            on_step: Called with the number of solver steps that are done, of all batches together; those that a start picture
                leaves out count as done. An error that it raises ends sampling.
            negative: Captions that guidance leads away from, instead of no caption.
            start: The picture to start from, instead of noise.
            on_estimate: Called after each step of a batch with its number, from 0, and the x_0 [B, C, H, W] estimated in it.

        Returns:
            Images [B, N, H, W] in about [-1, 1], float32 on the CPU.

        Raises:
            ConfigError: The schedule cannot be sampled in `config.steps` steps so spaced, guidance leaves no channel out, or a
                guide is wanted and there is none.
            NonFiniteError: A picture holds NaN or infinity; the error names its seed and the first step.
            OutOfMemoryError: So many pictures do not fit together.
        """
        finished: list[Tensor] = []
        for first in range(0, len(picture_seeds), config.batch_size):
            stop = min(first + config.batch_size, len(picture_seeds))
            before = len(finished) * config.steps
            path = self._path(config, start)
            left_out = config.steps + 1 - len(path.times)
            watch = Watch(picture_seeds[first:stop], config.steps)

            def count(step: int, x_0: Tensor, before: int = before + left_out, watch: Watch = watch) -> None:
                """Pass a step on, counted over all batches."""
                watch.step(step)
                if on_estimate is not None:
                    on_estimate(step, x_0)
                if on_step is not None:
                    on_step(before + step + 1)

            with naming_lack_of_memory(f"while {stop - first} pictures were sampled together", partial(_fewer, stop - first)):
                unwanted = None if negative is None else negative.rows(first, stop).to(self.device)
                rows = inputs.rows(first, stop).to(self.device)
                latents = self._latents(rows, unwanted, picture_seeds[first:stop], config, path, watch, count)
                images = self.decode(latents)
            finished.append(watch.finite(images))
        return torch.cat(finished)

    @torch.no_grad()
    def _latents(
        self,
        inputs: ConditionInputs,
        negative: TextTokens | None,
        picture_seeds: Sequence[int],
        config: SamplingConfig,
        path: _Path,
        watch: Watch,
        on_step: OnStep,
    ) -> Tensor:
        shape = (self.model.spec.facts.channels, *self.latent_size)

        def noise(step: int) -> Tensor:
            """Draw the noise of a step, of each picture by its own seed."""
            rows = [seeds.normal(seed, "sampling step", [step], shape) for seed in picture_seeds]
            return torch.cat(rows).to(self.device)

        eps = torch.cat([seeds.normal(seed, "sampling start", [0], shape) for seed in picture_seeds]).to(self.device)
        begin = eps if path.start is None else path.start.noised(eps, self.model.schedule)
        branches = self.branches_of(inputs, negative, config.guidance.keep_controls)
        if config.guidance.guide_scale != 1:
            guide = self.branches_of(inputs, negative, config.guidance.keep_controls, self._guide())
            branches = with_guide(branches, guide)
        denoise = self._within_bounds(watch.denoise(guided(branches, config.guidance, self.model.schedule)))
        return SOLVERS[config.solver](denoise, self.model.schedule, begin, path.times, noise, on_step)

    def _path(self, config: SamplingConfig, start: Start | None) -> _Path:
        grid = time_grid(self.model.schedule, config.steps, config.spacing, config.time_shift)
        return _Path(grid if start is None else start.times(grid), start)

    def times(self, config: SamplingConfig, strength: float = 1.0) -> list[float]:
        """Return the times that sampling visits, decreasing; those of a start picture of that strength are fewer."""
        start = None if strength == 1 else Start(torch.zeros(1), strength)
        return [float(t) for t in self._path(config, start).times]

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images [B, N, H, W] in [-1, 1] as latents [B, C, h, w]: the mean of the posterior."""
        return self.stats.normalise(self.autoencoder.encode(images.to(self.device)).mean)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, h, w] to images [B, N, H, W], float32 on the CPU."""
        return self.autoencoder.decode(self.stats.denormalise(latents)).float().cpu()

    def branches_of(
        self,
        inputs: ConditionInputs,
        negative: TextTokens | None = None,
        keep_controls: bool = False,
        model: DiffusionModel | None = None,
    ) -> DenoiseBranches:
        """Wrap the model as guidance calls it: several condition branches of the same pictures, evaluated as one batch.

        Args:
            inputs: Conditions of the pictures.
            negative: Captions that a branch without the semantic condition reads; None for no caption.
            keep_controls: Every branch reads the controls.
            model: Another one than the generator's.

        Returns:
            (x_t [K B, C, H, W], t, K branches) -> estimate of x_0.
        """

        def denoise_branches(x_t: Tensor, t: float, branches: tuple[Branch, ...]) -> Denoised:
            """Estimate x_0 with the conditions of each branch, as one batch."""
            unsaid = torch.full_like(inputs.keep_semantic, negative is not None)  # also where a picture has no caption
            semantic = torch.cat([inputs.keep_semantic if branch.semantic else unsaid for branch in branches])
            control = torch.cat([inputs.keep_control & (branch.control or keep_controls) for branch in branches])
            times = torch.full((len(x_t),), t, device=self.device)
            repeated = inputs.repeated(len(branches)).kept(semantic, control)
            if negative is not None and inputs.text is not None:
                text = TextTokens.joined([inputs.text if branch.semantic else negative for branch in branches])
                repeated = replace(repeated, text=text)
            return (model or self.model).denoise(x_t.float(), times, repeated)

        return denoise_branches

    def _guide(self) -> DiffusionModel:
        if self.guide is None:
            raise ConfigError(
                "guidance.guide_scale is not 1", needed="a second model as the guide", fix="ldm sample --guide RUN"
            )
        return self.guide

    def _within_bounds(self, denoise: Denoise) -> Denoise:
        """Keep estimates where data can be (pixels): an estimate outside is wrong whatever the network says."""
        if self.bounds is None:
            return denoise
        low, high = self.bounds

        def bounded(x_t: Tensor, t: float) -> Denoised:
            denoised = denoise(x_t, t)
            return replace(denoised, x_0=denoised.x_0.clamp(low, high))

        return bounded

    def _latent_bounds(self) -> tuple[Tensor, Tensor] | None:
        if self.autoencoder.raw_range is None:
            return None
        ends = [
            self.stats.normalise(torch.full((1, self.model.spec.facts.channels, 1, 1), end, device=self.device))
            for end in self.autoencoder.raw_range
        ]
        return ends[0], ends[1]
