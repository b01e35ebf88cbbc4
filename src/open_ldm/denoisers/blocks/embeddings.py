"""Embeddings shared by the denoisers: time and patches."""

from __future__ import annotations

from torch import Tensor, nn

from open_ldm.core.errors import ConfigError
from open_ldm.core.sinusoid import sinusoidal_features
from open_ldm.denoisers.blocks.linear import Linear

FEATURES = 256
"""Sinusoidal features per number, in all published transformers."""


class TimeEmbedding(nn.Module):
    """Sinusoidal features of the time, then Linear, SiLU, Linear."""

    def __init__(self, width: int, shift: int = 0, features: int = FEATURES) -> None:
        """Build the layers.

        Args:
            width: Width D of the result.
            shift: Shift of the frequencies, as `sinusoidal_features` takes it.
            features: Number of sinusoidal features.
        """
        super().__init__()
        self.shift, self.features = shift, features
        self.mlp = nn.Sequential(Linear(features, width), nn.SiLU(), Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        """Embed times [B], in the unit of `Schedule.network_time`: [B, D], float32."""
        embedded: Tensor = self.mlp(sinusoidal_features(time, self.features, self.shift))
        return embedded


class PatchEmbedding(nn.Module):
    """One token for every patch of p x p latent pixels, row by row.

    It is the convolution with kernel and stride p, stored as a matrix [D, C p p] over (channel, row, column).
    """

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = Linear(channels * patch * patch, width)

    def forward(self, x: Tensor) -> Tensor:
        """Embed latents [B, C, H, W] as [B, T, D] with T = (H / p)(W / p)."""
        tokens: Tensor = self.proj(patchify(x, self.patch))
        return tokens


def patchify(x: Tensor, patch: int) -> Tensor:
    """Cut latents into patches, row by row.

    Args:
        x: [B, C, H, W].
        patch: Side p of a patch; it divides both sides.

    Returns:
        [B, (H / p)(W / p), C p p], each vector ordered (channel, row, column), with the column fastest.
    """
    B, C, H, W = x.shape
    p = patch
    patches = x.view(B, C, H // p, p, W // p, p).permute(0, 2, 4, 1, 3, 5)  # [B, H/p, W/p, C, p, p]
    return patches.reshape(B, (H // p) * (W // p), C * p * p)


def grid_of(x: Tensor, patch: int) -> tuple[int, int]:
    """Count the rows and columns of patches in latents [B, C, H, W]; see `patches_of`."""
    return patches_of((x.shape[-2], x.shape[-1]), patch)


def patches_of(latent_size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Count the rows and columns of patches in latents.

    Args:
        latent_size: (height, width) of the latents.
        patch: Side of a patch in latent pixels.

    Returns:
        (rows, columns).

    Raises:
        ConfigError: A side is not a multiple of the patch.
    """
    H, W = latent_size
    if H % patch or W % patch:
        raise ConfigError(
            f"latents of {H}x{W} cannot be cut in patches of {patch}",
            needed=f"both sides a multiple of {patch}",
            fix="change data.transform.size_px or denoiser.patch",
        )
    return H // patch, W // patch


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Put the patches of all tokens together.

    Args:
        tokens: [B, T, p p C], each vector ordered (row, column, channel), with the channel fastest.
        grid: (rows, columns) of patches.
        patch: Side p of a patch.

    Returns:
        [B, C, H, W].
    """
    B = tokens.shape[0]
    rows, columns = grid
    pieces = tokens.view(B, rows, columns, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)
    return pieces.reshape(B, -1, rows * patch, columns * patch)
