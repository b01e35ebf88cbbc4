"""Loss on held-out pictures, noise level by noise level, with the same pictures, times and noise every time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from open_ldm.autoencoders import LatentStats
from open_ldm.conditioning import ConditioningConfig
from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError, NonFiniteError
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate_mean
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import Noising, ObjectiveInputs
from open_ldm.process.prediction import PredictionKind, target
from open_ldm.process.time_density import UniformTimes

TIMES = tuple((step + 0.5) / 10 for step in range(10))
_NOISE = "held-out noise"


@dataclass(frozen=True)
class HeldOutLoss:
    """mean |prediction - target|^2 over `count` pictures: `levels` at each of `times`, and `mean` over all of them.

    Comparable between models of the same prediction `kind`, noise schedule and latents, on the same pictures and seed.
    """

    kind: PredictionKind
    times: tuple[float, ...]
    levels: tuple[Estimate, ...]
    mean: Estimate

    @property
    def count(self) -> int:
        """Pictures."""
        return self.mean.count

    def to_json(self) -> dict[str, Any]:
        """Return plain data, for the event log and for evaluation.json."""
        return {
            "pictures": self.count,
            "mean": self.mean.value,
            "low": self.mean.low,
            "high": self.mean.high,
            "times": list(self.times),
            "levels": [level.value for level in self.levels],
        }


@torch.no_grad()
def held_out_loss(
    model: DiffusionModel,
    stats: LatentStats,
    conditioning: ConditioningConfig,
    batches: Iterable[EncodedBatch],
    *,
    times: Sequence[float] = TIMES,
    seed: int = 0,
    bootstrap: BootstrapConfig | None = None,
    world: World | None = None,
) -> HeldOutLoss:
    """The unweighted loss of every picture at every time, with all conditions given.

    Noise, posterior and padding draws are functions of (seed, position), the same at every time, so two models, or one model at
    two moments, differ by what they learned alone. On a discrete schedule a time moves up to the next step, as in training.
    Raises DataError without pictures, NonFiniteError when a loss is not finite.
    """
    world = world or World()
    device = next(model.parameters()).device
    told = conditioning.model_copy(update={"semantic_drop": 0.0, "control_drop": 0.0})
    noising = Noising(seed, 1, stats, told, UniformTimes(), model.schedule.discrete_steps, device)
    used = tuple(_on_grid(t, model.schedule.discrete_steps) for t in times)
    positions: list[int] = []
    rows: list[Tensor] = []
    for batch in batches:
        drawn = noising.draw(batch)
        rows.append(torch.stack([_losses(model, drawn, t) for t in used], dim=1).double().cpu())
        positions += batch.positions
    together = world.gathered((positions, rows))
    places = [position for part, _ in together for position in part]
    if not places:
        raise DataError("no pictures for the held-out loss", needed="at least one")
    table = torch.cat([row for _, part in together for row in part])[torch.argsort(torch.tensor(places))]
    return _summary(model.kind, used, table, bootstrap or BootstrapConfig())


def _losses(model: DiffusionModel, drawn: ObjectiveInputs, time: float) -> Tensor:
    """Loss [B] at one time."""
    eps = drawn.draws.normal(_NOISE, drawn.x_0.shape[1:])
    t = torch.full_like(drawn.t, time)
    prediction = model.predict(model.schedule.noised(drawn.x_0, eps, t), t, drawn.inputs)
    wanted = target(model.kind, drawn.x_0, eps, model.schedule.level(t))
    return (prediction.mean - wanted).square().flatten(1).mean(dim=1)


def _summary(kind: PredictionKind, times: tuple[float, ...], table: Tensor, bootstrap: BootstrapConfig) -> HeldOutLoss:
    """From losses [n, times]."""
    for column, time in enumerate(times):
        if not torch.isfinite(table[:, column]).all():
            raise NonFiniteError(f"the held-out loss at t = {time:g} is not finite", fix="look at the weights that were given")
    levels = tuple(estimate_mean("held_out_loss", table[:, column], bootstrap) for column in range(len(times)))
    return HeldOutLoss(kind, times, levels, estimate_mean("held_out_loss", table.mean(dim=1), bootstrap))


def _on_grid(time: float, steps: int | None) -> float:
    """The time itself, or the next step of a discrete schedule."""
    return time if steps is None else float(torch.ceil(torch.tensor(time * steps, dtype=torch.float64))) / steps
