"""Where attention and gradient go among the token positions of a caption: its own tokens, or what fills the rest
(arXiv 2411.03177, figures A3 and A4; method, section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.attention_probe import probe_attention
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import ObjectiveInputs
from open_ldm.process.prediction import target

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
_NOISE = "token noise"


@dataclass(frozen=True)
class ByPosition:
    """A quantity at each position of the sequence, averaged over the captions that have a `token` there and over those that
    have `padding` there; NaN where there is no such caption."""

    token: tuple[float, ...]
    padding: tuple[float, ...]


@dataclass(frozen=True)
class TokenInfluence:
    """Means over `pictures`, times and attentions.

    `padding_places`: share of positions that no caption fills. `attention`: share of the image tokens' attention that a
    position gets, and summed over positions `attention_tokens`, `attention_padding` (the rest stays in the image).
    `gradient`: norm of the loss's gradient at a position, relative to the sum over all positions; summed over padding
    `gradient_padding`.
    `by_time`: (t, attention_padding, gradient_padding) at each time; `by_block`: attention_padding of each attention, first
    block first.
    """

    pictures: int
    padding_places: float
    attention: ByPosition
    attention_tokens: float
    attention_padding: float
    gradient: ByPosition
    gradient_padding: float
    by_time: tuple[tuple[float, float, float], ...]
    by_block: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data; positions without a caption are null."""
        content = asdict(self)
        for name in ("attention", "gradient"):
            content[name] = {side: [None if value != value else value for value in row] for side, row in content[name].items()}
        return content


def token_influence(model: DiffusionModel, noised: ObjectiveInputs, times: Sequence[float] = TIMES) -> TokenInfluence:
    """Measure where a model's attention and gradient go; pictures without a caption are left out.

    The gradient is that of each picture's unweighted loss with respect to the context as the denoiser gets it, after padding.

    Args:
        model: A model with captions in its context.
        noised: Pictures with their captions, from `Noising.draw`.
        times: Noise levels t in [0, 1] to average over.

    Raises:
        ConfigError: The model has no text in its context, or no picture has a caption.
    """
    text = noised.inputs.text
    if text is None or model.conditioning.context_dim is None:
        raise ConfigError(
            "this model reads no caption tokens", needed="a model trained with captions, with route context or both"
        )
    rows = (text.mask.any(dim=1) & noised.inputs.keep_semantic).nonzero().flatten()
    if not len(rows):
        raise ConfigError("none of the pictures has a caption", needed="pictures with captions")
    real = text.mask[rows]
    attention, gradient, blocks = [], [], []
    for time in times:
        watched, norms = _at(model, noised, time)
        blocks.append(watched[:, rows])
        attention.append(watched[:, rows].mean(dim=0))
        gradient.append(norms[rows] / norms[rows].sum(dim=1, keepdim=True).clamp(min=1e-30))
    shares, slopes = torch.stack(attention), torch.stack(gradient)  # [times, B, L]
    padding = ~real
    return TokenInfluence(
        pictures=len(rows),
        padding_places=float(padding.float().mean()),
        attention=_by_position(shares.mean(dim=0), real),
        attention_tokens=_summed(shares, real),
        attention_padding=_summed(shares, padding),
        gradient=_by_position(slopes.mean(dim=0), real),
        gradient_padding=_summed(slopes, padding),
        by_time=tuple(
            (time, _summed(shares[index], padding), _summed(slopes[index], padding)) for index, time in enumerate(times)
        ),
        by_block=tuple(_summed(block, padding) for block in torch.stack(blocks).mean(dim=0)),
    )


def _at(model: DiffusionModel, noised: ObjectiveInputs, time: float) -> tuple[Tensor, Tensor]:
    """Attention [attentions, B, L] and gradient norms [B, L] at one time."""
    eps = noised.draws.normal(_NOISE, noised.x_0.shape[1:])
    t = torch.full_like(noised.t, time)
    level = model.schedule.level(t)
    with torch.no_grad():
        conditions = model.conditioning(noised.inputs, t)
    if conditions.context is None:
        raise ValueError("a model with a context slot fills it")
    context = conditions.context.detach().requires_grad_(True)
    x_t = model.schedule.noised(noised.x_0, eps, t)
    with torch.enable_grad(), probe_attention(model.denoiser, context.shape[1]) as probe:
        prediction = model.denoiser(x_t, model.schedule.network_time(t), replace(conditions, context=context))
    error = (prediction.mean - target(model.kind, noised.x_0, eps, level)).square().flatten(1).mean(dim=1)
    (slope,) = torch.autograd.grad(error.sum(), context)
    return torch.stack(probe.shares), slope.float().norm(dim=-1)


def _by_position(values: Tensor, real: Tensor) -> ByPosition:
    def mean_where(chosen: Tensor) -> tuple[float, ...]:
        total = (values * chosen).sum(dim=0) / chosen.sum(dim=0)  # 0 / 0 is NaN, as it should be
        return tuple(total.tolist())

    return ByPosition(mean_where(real), mean_where(~real))


def _summed(values: Tensor, chosen: Tensor) -> float:
    """Sum over the chosen positions, then average over everything else; values [..., B, L]."""
    return float((values * chosen).sum(dim=-1).mean())
