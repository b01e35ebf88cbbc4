"""Embeddings shared by the transformers: time, patches and positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from open_ldm.core.errors import ConfigError
from open_ldm.core.sinusoid import sinusoidal_features
from open_ldm.denoisers.blocks.linear import Linear

FEATURES = 256
"""Sinusoidal features per number, in all published transformers."""


class TimeEmbedding(nn.Module):
    """The network's time -> sinusoidal features -> Linear, SiLU, Linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Linear(FEATURES, width), nn.SiLU(), Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        """[B] -> [B, D], float32."""
        embedded: Tensor = self.mlp(sinusoidal_features(time, FEATURES))
        return embedded


class PatchEmbedding(nn.Module):
    """Latents -> one token per patch of p x p, row by row.

    The same map as a convolution with kernel and stride p, stored as a matrix [D, C p p] over (channel, row, column).
    """

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = Linear(channels * patch * patch, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, T, D] with T = (H / p)(W / p)."""
        B, C, H, W = x.shape
        p = self.patch
        patches = x.view(B, C, H // p, p, W // p, p).permute(0, 2, 4, 1, 3, 5)  # [B, H/p, W/p, C, p, p]
        tokens: Tensor = self.proj(patches.reshape(B, (H // p) * (W // p), C * p * p))
        return tokens


def grid_of(x: Tensor, patch: int) -> tuple[int, int]:
    """Rows and columns of patches in latents [B, C, H, W]. Raises when a side is not a multiple of the patch."""
    H, W = x.shape[-2:]
    if H % patch or W % patch:
        raise ConfigError(
            f"latents of {H}x{W} cannot be cut in patches of {patch}",
            needed=f"both sides a multiple of {patch}",
            fix="change data.transform.size_px or denoiser.patch",
        )
    return H // patch, W // patch


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """[B, T, p p C] with vectors ordered (row, column, channel), channel fastest -> [B, C, H, W]."""
    B = tokens.shape[0]
    rows, columns = grid
    pieces = tokens.view(B, rows, columns, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)
    return pieces.reshape(B, -1, rows * patch, columns * patch)


class Positions(nn.Module):
    """The fixed 2-D sinusoidal position table, made for any grid and kept for the last one used.

    The first D/2 channels encode the column, the last D/2 the row; each half is [sin | cos] of coordinate
    10000^(-i / (D/4)), computed in float64.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 4:
            raise ConfigError(f"denoiser.width={width} does not fit 2-D positions", needed="a multiple of 4")
        self.width = width
        self._kept: tuple[tuple[int, int, torch.device], Tensor] | None = None

    def forward(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """(rows, columns) -> [T, D], float32."""
        wanted = (*grid, device)
        if self._kept is None or self._kept[0] != wanted:
            rows = torch.arange(grid[0], dtype=torch.float64)
            columns = torch.arange(grid[1], dtype=torch.float64)
            self._kept = (wanted, sinusoidal_table(rows, columns, self.width).float().to(device))
        return self._kept[1]


def sinusoidal_table(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Row and column coordinates (float64) -> [rows x columns, width], tokens row by row."""
    by_row, by_column = torch.meshgrid(rows, columns, indexing="ij")
    return torch.cat([_axis(by_column.flatten(), width // 2), _axis(by_row.flatten(), width // 2)], dim=1)


def _axis(coordinate: Tensor, width: int) -> Tensor:
    quarter = width // 2
    frequencies = 10000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = coordinate.unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
