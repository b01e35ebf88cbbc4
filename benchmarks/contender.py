"""One side of a comparison, and the setting that both sides share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.denoisers.base import Geometry

ModelName = Literal["dit", "mdtv2", "mmdit", "pixart", "unet"]
MODELS: tuple[ModelName, ...] = get_args(ModelName)
Size = Literal["XS", "S", "B", "L", "XL"]

PATCH, CHANNELS, CLASSES = 2, 4, 1000
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Setting:
    """What both sides of a comparison share: model, size, latents [batch, 4, side, side], device and dtype of products."""

    model: ModelName
    size: Size
    batch: int
    side: int
    device: torch.device
    dtype: torch.dtype


class Contender:
    """One network with its optimiser. `step` is one whole training step and returns the loss."""

    def __init__(self, name: str, network: nn.Module, predict: Callable[[], Tensor], eps: Tensor) -> None:
        self.name, self.network = name, network
        self.parameters = list(network.parameters())
        self.predict, self._eps = predict, eps
        self._optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, fused=True)
        _fill_zeros(self.parameters)

    @property
    def parameter_count(self) -> int:
        """Trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters)

    def loss(self) -> Tensor:
        """Plain mean squared error against the noise, for both sides."""
        return F.mse_loss(self.predict().float(), self._eps)

    def step(self) -> Tensor:
        """Forward, loss, backward, AdamW (fused), gradients dropped."""
        loss = self.loss()
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()


@dataclass(frozen=True)
class Comparison:
    """Our network and the peer. `same_work`: whether a step of both is the same operations; else they are counted."""

    ours: Contender
    peer: Contender
    same_work: bool = True


def peer_geometry(shape: Geometry, side: int) -> dict[str, int]:
    return {
        "num_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "attention_head_dim": shape.width // shape.heads,
        "in_channels": CHANNELS,
        "patch_size": PATCH,
        "sample_size": side,
    }


def as_people_train(setting: Setting) -> AbstractContextManager[object]:
    """The peer's bf16: autocast over float32 parameters."""
    if setting.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(setting.device.type, setting.dtype)


@torch.no_grad()
def _fill_zeros(parameters: list[nn.Parameter]) -> None:
    """Nothing that starts at zero may make a side's first steps cheaper or its gradients vanish."""
    for parameter in parameters:
        if not parameter.any():
            parameter.normal_(std=0.02)
