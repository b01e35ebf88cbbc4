"""Denoise: what the model takes the picture to be at every step, and which conditions act there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.commands.sample import check_kind, sample_images
from open_ldm.commands.sample_options import checked_settings
from open_ldm.commands.start_picture import start_of
from open_ldm.controls.gate import gamma
from open_ldm.core.display import as_shown
from open_ldm.core.pictures import png_bytes, to_picture, to_pixels
from open_ldm.pages.charts import Plot, Series
from open_ldm.run_folder.report.gates import clock_time
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.guidance import scales
from open_ldm.sampling.requests import SampleRequest
from open_ldm.studio.device_queue import Job
from open_ldm.studio.models import Models
from open_ldm.studio.play import PlayRequest

_MOST_FRAMES = 60


@dataclass(frozen=True)
class Frame:
    """One step: its number, from 1, the time at which it begins, and x_0 as it was estimated there, as PNG."""

    step: int
    t: float
    png: bytes


@dataclass(frozen=True)
class Denoised:
    """The steps of one picture, the picture itself, and the curves under them."""

    model: str
    frames: tuple[Frame, ...]
    final: bytes
    plots: tuple[Plot, ...]


def denoise(models: Models, request: PlayRequest, job: Job[Denoised]) -> Denoised:
    """Sample one picture and keep its estimate of every step, of at most 60 evenly chosen ones. Raises as `play`."""
    run = models.load(request.model)
    options = request.options()
    settings = checked_settings(run, options)
    check_kind(run, options.prompts, options.classes)
    shown = next(iter((*options.prompts, *options.classes)), None)
    start = start_of(run, options.start, options.strength)
    times = run.generator.times(settings, 1.0 if start is None else start.strength)
    kept = chosen_steps(len(times) - 1)
    estimates: dict[int, Tensor] = {}

    def keep(step: int, x_0: Tensor) -> None:
        if step in kept:
            estimates[step] = x_0[:1].detach().clone()

    job.total = settings.steps
    asked = [SampleRequest(request.seed, shown, options.controls)]
    image = sample_images(run, asked, settings, job.tick, None, start, keep)
    frames = tuple(Frame(step + 1, times[step], _png(run, run.generator.decode(x_0))) for step, x_0 in estimates.items())
    return Denoised(request.model, frames, _png(run, image), plots_of(run, settings, times))


def chosen_steps(steps: int) -> set[int]:
    """Return the steps, from 0, that are kept: all, or the first, the last and others evenly between."""
    if steps <= _MOST_FRAMES:
        return set(range(steps))
    return {round(number * (steps - 1) / (_MOST_FRAMES - 1)) for number in range(_MOST_FRAMES)}


def plots_of(run: LoadedRun, settings: SamplingConfig, times: Sequence[float]) -> tuple[Plot, ...]:
    """Return the gates of the controls and the guidance scales over the steps, at the times where each begins."""
    begins = torch.tensor(list(times[:-1]), dtype=torch.float64)
    steps = [float(number) for number in range(1, len(times))]
    schedule = run.model.schedule
    gates = [
        Series(control.asked_as, steps, gamma(control.gate, clock_time(control.gate, schedule, begins)).tolist())
        for control in run.recipe.conditioning.controls
    ]
    guided = [scales(settings.guidance, float(t), schedule) for t in begins]
    guidance = [Series(name, steps, [one[place] for one in guided]) for place, name in enumerate(("semantic", "control"))]
    sizes = {"width": 640, "height": 220, "from_zero": True}
    noise = [Series("t", steps, begins.tolist())]
    plots = [Plot("Guidance scales", "step", "scale", guidance, **sizes), Plot("Noise left", "step", "t", noise, **sizes)]  # type: ignore[arg-type]
    if gates:
        title = "Gates of the controls" if len(gates) > 1 else f"Gate of {gates[0].name}"
        plots.insert(0, Plot(title, "step", "γ", gates, **sizes))  # type: ignore[arg-type]
    return tuple(plots)


def _png(run: LoadedRun, image: Tensor) -> bytes:
    return png_bytes(to_picture(as_shown(to_pixels(image), run.recipe.data.display)[0]))
