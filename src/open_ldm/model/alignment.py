"""Aligning a middle layer to the autoencoder: its tokens tell a small network what the encoder made of the clean picture.

    tokens [B, T, D] of one block --> Linear, SiLU, Linear, SiLU, Linear --> patches of the posterior's mean [B, T, p p C]

As SRA 2 (Wang et al. 2026, arXiv 2601.17830), it needs neither a teacher network nor another pass: the targets are the latents
that a run or its cache has anyway. Differs from the paper / unverified: which layer of the encoder, which block and which
distance it takes; here the mean of the posterior, normalised as latents are, a block in the middle, and the squared error.

The network is used in training alone. Its tensors lie in a checkpoint beside the model's; a model that samples has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.base import Denoiser
from open_ldm.denoisers.blocks.embeddings import patchify
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.routing import RoutingConfig

ALIGNMENT = "alignment."
"""Prefix of its tensors."""


class AlignmentConfig(Config):
    """How a layer is aligned.

    Attributes:
        weight: Of its error beside the objective's.
        depth: Share of the blocks that come before the layer, its own included: 1 is the last block.
    """

    weight: float = Field(default=0.5, gt=0, le=1000)
    depth: float = Field(default=0.5, gt=0, le=1)


class Alignment(nn.Module):
    """The network of the module's docstring, for one block of a denoiser.

    Args:
        config: Which block.
        denoiser: Whose block.
        channels: Of the latents.

    Raises:
        ConfigError: In training tokens are led around that block.
    """

    def __init__(self, config: AlignmentConfig, denoiser: Denoiser, channels: int) -> None:
        super().__init__()
        layers = denoiser.layers()
        self.number = math.ceil(config.depth * len(layers)) - 1
        routing = getattr(denoiser, "routing", None)
        if routing is not None and routing.goes_around(self.number, len(layers)):
            raise ConfigError(
                f"objective.alignment looks at block {self.number + 1} of {len(layers)}, which some tokens go around",
                needed="a block that sees all tokens",
                fix=_depth_that_sees_all(routing, len(layers)),
            )
        self.patch, width = layers[self.number].patch, layers[self.number].width
        self.projection = nn.Sequential(
            Linear(width, width), nn.SiLU(), Linear(width, width), nn.SiLU(), Linear(width, self.patch**2 * channels)
        )

    @contextmanager
    def watching(self, denoiser: Denoiser) -> Iterator[list[Any]]:
        """Context manager that yields a list, to which every pass of the denoiser appends what the block returns."""
        seen: list[Any] = []
        hook = denoiser.layers()[self.number].block.register_forward_hook(lambda block, given, output: seen.append(output))
        try:
            yield seen
        finally:
            hook.remove()

    def forward(self, output: Any, mean: Tensor, denoiser: Denoiser) -> Tensor:
        """Return how far the guess is off.

        Args:
            output: What the block returned.
            mean: Normalised mean of the posterior of each picture's latents, [B, C, H, W].
            denoiser: Gives the dtype of matrix products.

        Returns:
            Mean squared error of each picture, [B], float32.
        """
        wanted = patchify(mean, self.patch)  # [B, T, C p p]
        tokens = image_tokens(output, wanted.shape[1]).to(denoiser.compute_dtype)  # [B, T, D]
        error: Tensor = (self.projection(tokens).float() - wanted).square().flatten(1).mean(dim=1)
        return error


def image_tokens(output: Any, count: int) -> Tensor:
    """Take the image's part of what a block returned, as tokens row by row.

    Args:
        output: Tokens [B, T, D], which others may stand behind; several tensors, the image's first; or a map [B, D, h, w].
        count: How many tokens T the image has.

    Returns:
        [B, T, D].
    """
    x: Tensor = output[0] if isinstance(output, tuple) else output
    return x.flatten(2).transpose(1, 2) if x.ndim == 4 else x[:, :count]


def _depth_that_sees_all(routing: RoutingConfig, layers: int) -> str:
    """The setting for a block beside the route, the last one before it if there is any."""
    beside = [number for number in range(layers) if not routing.goes_around(number, layers)]
    if not beside:
        return "leave one of them out"
    number = max((one for one in beside if one < routing.first), default=beside[0])
    return f"objective.alignment.depth={(number + 0.5) / layers:.3g}"  # the middle of its share, which no rounding leaves
