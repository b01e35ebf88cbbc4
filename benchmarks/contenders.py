"""The two sides of each comparison: open-ldm's network and the diffusers model of the same size, on the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from diffusers import DiTTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.conditioning import ConditioningConfig, ConditionInputs, Conditions
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.controls import ViewShape
from open_ldm.denoisers import DiTConfig, MMDiTConfig, Slots, build_denoiser
from open_ldm.denoisers.base import SIZES, Geometry
from open_ldm.model.diffusion import ModelFacts, ProcessConfig, build_model
from open_ldm.process.schedules import LinearSchedule

ModelName = Literal["dit", "mdtv2", "mmdit", "pixart", "unet"]
MODELS: tuple[ModelName, ...] = get_args(ModelName)
Size = Literal["XS", "S", "B", "L", "XL"]

PATCH, CHANNELS, CLASSES = 2, 4, 1000
CONTEXT_TOKENS, CONTEXT_DIM, POOLED_DIM = 77, 2048, 1280
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
        self.name = name
        self.parameters = list(network.parameters())
        self._predict, self._eps = predict, eps
        self._optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, fused=True)
        _fill_zeros(self.parameters)

    @property
    def parameter_count(self) -> int:
        """Trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters)

    def loss(self) -> Tensor:
        """Plain mean squared error against the noise, for both sides."""
        return F.mse_loss(self._predict().float(), self._eps)

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


def build(setting: Setting) -> Comparison:
    """Both sides on the same inputs, drawn from a fixed seed."""
    torch.manual_seed(0)
    with torch.device(setting.device):
        x_t = torch.randn(setting.batch, CHANNELS, setting.side, setting.side)
        eps, t = torch.randn_like(x_t), torch.rand(setting.batch)
    if setting.model == "pixart":
        from contend_pixart import pixart

        return pixart(setting, x_t, eps, t)
    if setting.model == "mdtv2":
        from contend_mdtv2 import mdtv2

        return mdtv2(setting, x_t, eps, t)
    if setting.model == "unet":
        from contend_unet import unet

        return unet(setting, x_t, eps, t)
    return _dit(setting, x_t, eps, t) if setting.model == "dit" else _mmdit(setting, x_t, eps, t)


def _dit(setting: Setting, x_t: Tensor, eps: Tensor, t: Tensor) -> Comparison:
    labels = torch.randint(CLASSES, (setting.batch,), device=x_t.device)
    kept = torch.ones_like(labels, dtype=torch.bool)
    model = build_model(
        ProcessConfig(schedule=LinearSchedule(), prediction="eps"),
        ConditioningConfig(semantic=ClassSemantic(route="modulation")),
        DiTConfig(size=setting.size, patch=PATCH),
        ModelFacts(CHANNELS, ViewShape(256, 256, 256), tuple(str(label) for label in range(CLASSES))),
        seed=0,
    )
    model = model.to(x_t.device).compute_in(setting.dtype)
    inputs = ConditionInputs(keep_semantic=kept, keep_control=kept, labels=labels)
    ours = Contender("open-ldm", model, lambda: model.predict(x_t, t, inputs).mean, eps)
    return Comparison(ours, dit_peer(setting, x_t, eps, t, labels))


def dit_peer(setting: Setting, x_t: Tensor, eps: Tensor, t: Tensor, labels: Tensor) -> Contender:
    """diffusers' class-conditional DiT."""
    shape = SIZES[setting.size]
    peer = DiTTransformer2DModel(**_peer_geometry(shape, setting.side), out_channels=CHANNELS, norm_eps=1e-6)
    for block in peer.transformer_blocks[1:]:
        # diffusers stores the time MLP and class table once per block; sharing them gives the published parameter count
        # and spares the peer their optimiser steps.
        block.norm1.emb = peer.transformer_blocks[0].norm1.emb
    peer.eval().to(x_t.device)  # its only use of train mode is to drop labels
    steps = (t * 999).round().long()

    def predict() -> Tensor:
        with _as_people_train(setting):
            out: Tensor = peer(x_t, timestep=steps, class_labels=labels, return_dict=False)[0]
        return out

    return Contender("diffusers", peer, predict, eps)


class _WithPooled(nn.Module):
    """mmDiT with an MLP for the pooled text vector, as Stable Diffusion 3."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = SIZES[size].width
        self.pooled = nn.Sequential(nn.Linear(POOLED_DIM, width), nn.SiLU(), nn.Linear(width, width))
        self.denoiser = build_denoiser(MMDiTConfig(size=size, patch=PATCH), Slots(CHANNELS, CONTEXT_DIM))

    def forward(self, x_t: Tensor, time: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        mean: Tensor = self.denoiser(x_t, time, Conditions(self.pooled(pooled), context)).mean
        return mean


def _mmdit(setting: Setting, x_t: Tensor, eps: Tensor, t: Tensor) -> Comparison:
    context = torch.randn(setting.batch, CONTEXT_TOKENS, CONTEXT_DIM, device=x_t.device)
    pooled, time = torch.randn(setting.batch, POOLED_DIM, device=x_t.device), t * 1000
    model = _WithPooled(setting.size).to(x_t.device)
    model.denoiser.compute_dtype = setting.dtype
    ours = Contender("open-ldm", model, lambda: model(x_t, time, context, pooled), eps)

    shape = SIZES[setting.size]
    peer = SD3Transformer2DModel(
        **_peer_geometry(shape, setting.side),
        out_channels=CHANNELS,
        joint_attention_dim=CONTEXT_DIM,
        caption_projection_dim=shape.width,
        pooled_projection_dim=POOLED_DIM,
        pos_embed_max_size=setting.side // PATCH,
    ).to(x_t.device)

    def predict() -> Tensor:
        with _as_people_train(setting):
            out: Tensor = peer(x_t, context, pooled, time, return_dict=False)[0]
        return out

    return Comparison(ours, Contender("diffusers", peer, predict, eps))


def _peer_geometry(shape: Geometry, side: int) -> dict[str, int]:
    return {
        "num_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "attention_head_dim": shape.width // shape.heads,
        "in_channels": CHANNELS,
        "patch_size": PATCH,
        "sample_size": side,
    }


def _as_people_train(setting: Setting) -> AbstractContextManager[object]:
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
