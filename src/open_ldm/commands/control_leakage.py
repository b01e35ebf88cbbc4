"""Does a control leak into the content? The change of a model's prediction when only one control changes, time by time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from open_ldm.core import seeds
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.requests import SampleRequest


@dataclass(frozen=True)
class Influence:
    """`change`: root mean square change of the prediction at time `t`, relative to its own size. `exact`: no bit differs."""

    t: float
    change: float
    exact: bool


@torch.no_grad()
def influence(
    run: LoadedRun, option: str, values: tuple[str, str], captions: Sequence[str | None], times: Sequence[float]
) -> list[Influence]:
    """Compare predictions for the same noise and captions under two values of control `option` at each of `times`.

    At t = 1 nothing but noise is there, so what changes then changes the content. A gate that is 0 there lets nothing through.
    Raises ConfigError for a control the model does not have.
    """
    device = run.machine.device
    pair = [
        run.build_inputs([SampleRequest(i, caption, {option: value}) for i, caption in enumerate(captions)]) for value in values
    ]
    shape = run.recipe.latent_shape
    x_t = seeds.normal(0, "leak", range(len(captions)), shape).to(device)
    influences = []
    for time in times:
        t = torch.full((len(captions),), time, device=device)
        one, other = (run.model.predict(x_t, t, inputs.to(device)).mean for inputs in pair)
        change = (one - other).square().mean().sqrt() / one.square().mean().sqrt().clamp(min=1e-12)
        influences.append(Influence(time, float(change), bool(torch.equal(one, other))))
    return influences
