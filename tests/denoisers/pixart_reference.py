"""PixArt-alpha written plainly in float64 over a state dict in the original layout: one picture at a time, no batching.

An independent reference: it shares no line with the library. Captions are restricted to their real tokens by leaving the
others out, as the original's block-diagonal attention does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

PATCH = 2


def position_table(width: int, grid: tuple[int, int], base: int, lewei_scale: float) -> Tensor:
    """[T, D], float64: sines and cosines of the column, then of the row, tokens row by row."""
    frequencies = [10000 ** (-i / (width // 4)) for i in range(width // 4)]
    table = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            coordinates = column / (grid[1] / base) / lewei_scale, row / (grid[0] / base) / lewei_scale
            table.append(
                [wave(coordinate * f) for coordinate in coordinates for wave in (math.sin, math.cos) for f in frequencies]
            )
    return torch.tensor(table, dtype=torch.float64)


@dataclass(frozen=True)
class Picture:
    """x [C, H, W], t, caption tokens [L, width of captions], mask bool [L], and for PixArtMS size (h, w) and ratio."""

    x: Tensor
    t: float
    caption: Tensor
    mask: Tensor
    size: tuple[float, float] | None = None
    ratio: float | None = None


class Reference:
    """`base`: tokens a side the network was made for; `lewei_scale`: of its position table."""

    def __init__(self, state: Mapping[str, Tensor], heads: int, base: int, lewei_scale: float) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}
        self.heads, self.base, self.lewei_scale = heads, base, lewei_scale
        self.depth = sum(name.endswith(".attn.qkv.weight") for name in state)

    def __call__(self, picture: Picture) -> Tensor:
        """[2 C or C, H, W]."""
        p, (rows, columns) = PATCH, (side // PATCH for side in picture.x.shape[1:])
        x = torch.nn.functional.conv2d(
            picture.x[None].double(), self.state["x_embedder.proj.weight"], self.state["x_embedder.proj.bias"], stride=p
        )
        x = x[0].flatten(1).T
        x = x + position_table(x.shape[1], (rows, columns), self.base, self.lewei_scale)
        t = self.embed("t_embedder.mlp", picture.t)
        if picture.size is not None and picture.ratio is not None:
            sizes = [self.embed("csize_embedder.mlp", side) for side in picture.size]
            t = t + torch.cat([*sizes, self.embed("ar_embedder.mlp", picture.ratio)])
        t0 = self.linear("t_block.1", silu(t)).view(6, -1)
        y = self.linear("y_embedder.y_proj.fc2", gelu(self.linear("y_embedder.y_proj.fc1", picture.caption.double())))
        for i in range(self.depth):
            x = self.block(f"blocks.{i}", x, y[picture.mask], t0)
        shift, scale = self.state["final_layer.scale_shift_table"] + t
        x = self.linear("final_layer.linear", norm(x) * (1 + scale) + shift)
        out = torch.empty(x.shape[1] // p**2, rows * p, columns * p, dtype=torch.float64)
        for token, values in enumerate(x):
            top, left = (token // columns) * p, (token % columns) * p
            out[:, top : top + p, left : left + p] = values.view(p, p, -1).permute(2, 0, 1)
        return out

    def block(self, at: str, x: Tensor, y: Tensor, t0: Tensor) -> Tensor:
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = self.state[f"{at}.scale_shift_table"] + t0
        q, k, v = self.linear(f"{at}.attn.qkv", norm(x) * (1 + scale_msa) + shift_msa).chunk(3, dim=1)
        x = x + gate_msa * self.linear(f"{at}.attn.proj", self.attention(q, k, v))
        q = self.linear(f"{at}.cross_attn.q_linear", x)
        k, v = self.linear(f"{at}.cross_attn.kv_linear", y).chunk(2, dim=1)
        x = x + self.linear(f"{at}.cross_attn.proj", self.attention(q, k, v))
        hidden = gelu(self.linear(f"{at}.mlp.fc1", norm(x) * (1 + scale_mlp) + shift_mlp))
        return x + gate_mlp * self.linear(f"{at}.mlp.fc2", hidden)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = [part.chunk(self.heads, dim=1) for part in (q, k, v)]
        return torch.cat(
            [
                (one @ other.T / math.sqrt(one.shape[1])).softmax(dim=1) @ value
                for one, other, value in zip(*heads, strict=True)
            ],
            dim=1,
        )

    def embed(self, at: str, number: float) -> Tensor:
        # In float32, as published: at a thousand, an angle's rounding is seen in the output.
        angles = torch.tensor(number) * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128)
        features = torch.cat([angles.cos(), angles.sin()]).double()
        return self.linear(f"{at}.2", silu(self.linear(f"{at}.0", features)))

    def linear(self, at: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{at}.weight"].T + self.state[f"{at}.bias"]


def norm(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def gelu(x: Tensor) -> Tensor:
    return x / 2 * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())
