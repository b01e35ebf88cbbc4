"""Token routing: in training, a part of the image tokens takes a route around the middle blocks (TREAD, Krause et al. 2025,
arXiv 2501.04765).

    tokens [B, T, D] --> first blocks --> K tokens, drawn for each picture --> middle blocks --> put back --> last blocks
                                  '--------------- the other T - K, unchanged -----------------^

The middle blocks cost K / T of what they would, the loss is that of all tokens, and the network that samples is the same: it
runs every block on every token. Tokens of a context take no route. Differs from the paper: which blocks are around is set by
numbers of blocks, and guidance by a routed pass is not offered.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import Draws


class RoutingConfig(Config):
    """Which tokens take the route, and around which blocks.

    Attributes:
        share: Of a picture's tokens that take it, in (0, 1).
        first: Blocks that run on all tokens before it.
        last: Blocks that run on all tokens behind it.
    """

    share: float = Field(default=0.5, gt=0, lt=1)
    first: int = Field(default=1, ge=0)
    last: int = Field(default=1, ge=1)

    def require_blocks(self, depth: int) -> None:
        """Raise ConfigError unless some of `depth` blocks are left in the middle."""
        if self.first + self.last >= depth:
            raise ConfigError(
                f"denoiser.routing leaves none of {depth} blocks to go around: {self.first} first and {self.last} last ones",
                needed=f"first + last below {depth}",
            )

    def goes_around(self, block: int, depth: int) -> bool:
        """Whether block number `block` of `depth` is one that the route leads around."""
        return self.first <= block < depth - self.last

    def kept(self, draws: Draws, tokens: int) -> Tensor:
        """Draw for each picture which of its `tokens` pass through the middle blocks: indices int64 [B, K], in no order."""
        count = max(1, round(tokens * (1 - self.share)))
        return draws.uniform("routing", (tokens,)).argsort(dim=1, stable=True)[:, :count]


class Route:
    """The way of one batch through the blocks.

    Args:
        config: Where the route begins and ends; None where nothing is routed.
        kept: Indices [B, K] of the image tokens that pass through the middle blocks; None for all.
        image: Number T of image tokens.
        blocks: How many blocks there are.
    """

    def __init__(self, config: RoutingConfig | None, kept: Tensor | None, image: int, blocks: int) -> None:
        self._kept, self._image = kept, image
        self._start, self._stop = (0, 0) if config is None else (config.first, blocks - config.last)
        self._all: Tensor | None = None

    def before(self, block: int, x: Tensor) -> Tensor:
        """Return the tokens that a block runs on.

        Args:
            block: Its number.
            x: What the block before it returned: tokens of the image, then any others, [B, N, D].

        Returns:
            [B, N, D]; in the middle [B, N - T + K, D].
        """
        if self._kept is None:
            return x
        if block == self._start:
            self._all = x
            return _part(x, self._kept, self._image)
        if block == self._stop and self._all is not None:
            return _whole(self._all, x, self._kept, self._image)
        return x


def _part(x: Tensor, kept: Tensor, image: int) -> Tensor:
    """The kept ones of the first `image` tokens, then all others."""
    taken = x[:, :image].gather(1, kept.unsqueeze(2).expand(-1, -1, x.shape[2]))
    return taken if x.shape[1] == image else torch.cat([taken, x[:, image:]], dim=1)


def _whole(x: Tensor, part: Tensor, kept: Tensor, image: int) -> Tensor:
    """All tokens, those of `part` in their places."""
    count = kept.shape[1]
    filled = x[:, :image].scatter(1, kept.unsqueeze(2).expand(-1, -1, x.shape[2]), part[:, :count].to(x.dtype))
    return filled if x.shape[1] == image else torch.cat([filled, part[:, count:].to(x.dtype)], dim=1)
