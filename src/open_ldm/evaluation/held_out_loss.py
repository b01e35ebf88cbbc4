"""Loss on held-out pictures, noise level by noise level, with the same pictures, times and noise every time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from open_ldm.autoencoders import LatentStats
from open_ldm.conditioning import ConditioningConfig
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError, NonFiniteError
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate_mean
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import Noising, ObjectiveInputs
from open_ldm.process.prediction import PredictionKind, error_ratio, target
from open_ldm.process.time_density import UniformTimes

TIMES = tuple((step + 0.5) / 10 for step in range(10))
_NOISE = "held-out noise"


@dataclass(frozen=True)
class HeldOutLoss:
    """mean |prediction - target|^2 over `count` pictures: `levels` at each of `times`, and `mean` over all of them.

    Comparable between models whose errors are told as the same `kind` of prediction, of the same noise schedule and latents, on
    the same pictures and seed. Where the pictures have several shapes, `by_shape` is the mean over those of each, by its
    HEIGHTxWIDTH in px.
    """

    kind: PredictionKind
    times: tuple[float, ...]
    levels: tuple[Estimate, ...]
    mean: Estimate
    by_shape: Mapping[str, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Pictures."""
        return self.mean.count

    def to_json(self) -> dict[str, Any]:
        """Return plain data, for the event log and for evaluation.json."""
        return {
            "prediction": self.kind,
            "pictures": self.count,
            "mean": self.mean.value,
            "low": self.mean.low,
            "high": self.mean.high,
            "times": list(self.times),
            "levels": [level.value for level in self.levels],
            **({"by_shape": dict(self.by_shape)} if self.by_shape else {}),
        }


@torch.no_grad()
def held_out_loss(
    model: DiffusionModel,
    stats: LatentStats,
    conditioning: ConditioningConfig,
    batches: Iterable[EncodedBatch],
    *,
    times: Sequence[float] = TIMES,
    kind: PredictionKind | None = None,
    seed: int = 0,
    bootstrap: BootstrapConfig | None = None,
    world: World | None = None,
    factor: int = 1,
) -> HeldOutLoss:
    """Measure the unweighted loss of every picture at every time, with no condition dropped.

    Noise, posterior and padding draws are functions of (seed, position) alone, so two models, or one model at two points of
    its training, differ only in what they learned.

    Args:
        model: Moves nothing: it is neither trained nor switched to another mode.
        stats: Mean and deviation of the latents the model was trained on.
        conditioning: Of the run; its drop rates are ignored.
        batches: Encoded pictures, in any order.
        times: Noise levels t in [0, 1]; on a discrete schedule each moves up to the next step, as in training.
        kind: Kind of prediction as which errors are told; None for the model's own.
        seed: Of the noise.
        bootstrap: Settings of the intervals.
        world: With several processes, each one passes its own share of the batches and all get the result.
        factor: Pixels of a picture's side for one of its latents, to name the shapes by.

    Raises:
        ConfigError: The model's prediction says nothing of the other kind at one of the times.
        DataError: There are no pictures.
        NonFiniteError: A loss is NaN or infinite.
    """
    world = world or World()
    noising = _undropped(model, stats, conditioning, seed)
    told = kind or model.kind
    used = tuple(_on_grid(t, model.schedule.discrete_steps) for t in times)
    _require_tellable(model, told, used)
    positions: list[int] = []
    rows: list[Tensor] = []
    shapes: list[str] = []
    for batch in batches:
        noised = noising.draw(batch)
        rows.append(torch.stack([_losses(model, told, noised, t) for t in used], dim=1).double().cpu())
        positions += batch.positions
        height, width = noised.x_0.shape[-2:]
        shapes += [f"{factor * height}x{factor * width}"] * len(noised.x_0)
    together = world.gathered((positions, rows, shapes), "held-out losses")
    gathered = [position for part, _, _ in together for position in part]
    if not gathered:
        raise DataError("there are no pictures for the held-out loss", needed="at least one held-out picture")
    order = torch.argsort(torch.tensor(gathered))
    table = torch.cat([row for _, part, _ in together for row in part])[order]
    shown = [shape for _, _, part in together for shape in part]
    return replace(
        _summary(told, used, table, bootstrap or BootstrapConfig()),
        by_shape=_by_shape(table.mean(dim=1), [shown[place] for place in order.tolist()]),
    )


def _undropped(model: DiffusionModel, stats: LatentStats, conditioning: ConditioningConfig, seed: int) -> Noising:
    """Draws of a batch in which nothing is dropped."""
    told = conditioning.model_copy(update={"semantic_drop": 0.0, "control_drop": 0.0})
    device = next(model.parameters()).device
    return Noising(seed, 1, stats, told, UniformTimes(), model.schedule.discrete_steps, device)


def _require_tellable(model: DiffusionModel, told: PredictionKind, times: Sequence[float]) -> None:
    ratios = error_ratio(model.kind, told, model.schedule.level(torch.tensor(times, dtype=torch.float64)))
    for time, ratio in zip(times, ratios.tolist(), strict=True):
        if not math.isfinite(ratio):
            raise ConfigError(
                f"the model's prediction of {model.kind} says nothing of {told} at t = {time:g}",
                needed=f"prediction={model.kind}, or a schedule that is not at its end there",
            )


def _by_shape(means: Tensor, shapes: Sequence[str]) -> dict[str, float]:
    """Average the pictures' losses [n] by shape; empty where all have one."""
    if len(names := sorted(set(shapes))) < 2:
        return {}
    return {name: float(means[[place for place, shape in enumerate(shapes) if shape == name]].mean()) for name in names}


def _losses(model: DiffusionModel, told: PredictionKind, noised: ObjectiveInputs, time: float) -> Tensor:
    """Compute the losses [B] at one time, of errors told as one kind of prediction."""
    eps = noised.draws.normal(_NOISE, noised.x_0.shape[1:])
    t = torch.full_like(noised.t, time)
    prediction = model.predict(model.schedule.noised(noised.x_0, eps, t), t, noised.inputs)
    level = model.schedule.level(t)
    wanted = target(model.kind, noised.x_0, eps, level)
    return error_ratio(model.kind, told, level) ** 2 * (prediction.mean - wanted).square().flatten(1).mean(dim=1)


def _summary(kind: PredictionKind, times: tuple[float, ...], table: Tensor, bootstrap: BootstrapConfig) -> HeldOutLoss:
    """Average losses [n, times], with intervals."""
    for column, time in enumerate(times):
        if not torch.isfinite(table[:, column]).all():
            raise NonFiniteError(
                f"the held-out loss at t = {time:g} is not finite", fix="check the weights of the model for NaN and infinity"
            )
    levels = tuple(estimate_mean("held_out_loss", table[:, column], bootstrap) for column in range(len(times)))
    return HeldOutLoss(kind, times, levels, estimate_mean("held_out_loss", table.mean(dim=1), bootstrap))


def _on_grid(time: float, steps: int | None) -> float:
    """The time itself, or the next step of a discrete schedule."""
    return time if steps is None else float(torch.ceil(torch.tensor(time * steps, dtype=torch.float64))) / steps
