"""MDTv2 written down plainly in float64, on the tensors of its published file: what ours is measured by.

It shares no code with open_ldm. Tokens are Python lists, one tensor [D] per position, and every loop is written out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Position:
    """Where an image token lies; context tokens have none."""

    row: int
    column: int


@dataclass(frozen=True)
class Reference:
    """The network of a published state dict. `grid`: rows and columns of tokens its tables were made for."""

    state: dict[str, Tensor]
    heads: int
    patch: int
    grid: tuple[int, int]

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        labels: Tensor,
        unmasked: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """x [B, C, H, W] float64, t [B], labels [B], unmasked [B, K], embedded context [B, L, D] -> [B, 2 C, H, W]."""
        whole = [
            self.one(
                x[b : b + 1],
                t[b],
                int(labels[b]),
                None if unmasked is None else unmasked[b].tolist(),
                [] if context is None else list(context[b]),
                [] if context is None else ([True] * context.shape[1] if context_mask is None else context_mask[b].tolist()),
            )
            for b in range(len(x))
        ]
        return torch.cat(whole)

    def one(
        self, x: Tensor, t: Tensor, label: int, unmasked: list[int] | None, context: list[Tensor], visible: list[bool]
    ) -> Tensor:
        """One picture."""
        rows, columns = self.grid
        patches = F.conv2d(x, self["x_embedder.proj.weight"], self["x_embedder.proj.bias"], stride=self.patch)
        count = rows * columns
        positions: list[Position | None] = [Position(row, column) for row in range(rows) for column in range(columns)]
        positions += [None] * len(context)
        image = [patches[0, :, n // columns, n % columns] + self["pos_embed"][0, n] for n in range(count)]
        tokens, attended_to = image + context, [True] * count + visible

        angles = t.float() * torch.exp(-math.log(10000) * torch.arange(128.0) / 128)  # float32, as published: it shows
        time = F.silu(self.linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()]).double()))
        c = self.linear("t_embedder.mlp.2", time) + self["y_embedder.embedding_table.weight"][label]

        seen = range(len(tokens)) if unmasked is None else [*unmasked, *range(count, len(tokens))]
        part = [tokens[n] for n in seen]
        part_positions, part_attended_to = [positions[n] for n in seen], [attended_to[n] for n in seen]
        stack: list[list[Tensor]] = []
        for i in range(self.blocks("en_inblocks")):
            part = self.block(f"en_inblocks.{i}", part, c, part_positions, part_attended_to)
            stack.append(part)
        for i in range(self.blocks("en_outblocks")):
            part = self.block(f"en_outblocks.{i}", part, c, part_positions, part_attended_to, skip=stack.pop())
        assert not stack

        encoded = dict(zip(seen, part, strict=True))
        full = [encoded.get(n, self["mask_token"][0, 0]) for n in range(len(tokens))]
        full = [token + self["decoder_pos_embed"][0, n] if n < count else token for n, token in enumerate(full)]
        if unmasked is not None:
            guessed = self.block("sideblocks.0", full, c, positions, attended_to)
            full = [full[n] if n in encoded else guessed[n] for n in range(len(tokens))]
        for i in range(self.blocks("de_blocks")):
            full = self.block(f"de_blocks.{i}", full, c, positions, attended_to, skip=tokens)

        shift, scale = self.linear("final_layer.adaLN_modulation.1", F.silu(c)).chunk(2)
        out = torch.zeros(self["final_layer.linear.weight"].shape[0] // self.patch**2, *x.shape[2:], dtype=x.dtype)
        for n in range(count):
            vector = self.linear("final_layer.linear", norm(full[n]) * (1 + scale) + shift)
            piece = vector.view(self.patch, self.patch, -1).permute(2, 0, 1)
            top, left = n // columns * self.patch, n % columns * self.patch
            out = out + F.pad(piece, (left, x.shape[3] - left - self.patch, top, x.shape[2] - top - self.patch))
        return out.unsqueeze(0)

    def block(
        self,
        name: str,
        x: list[Tensor],
        c: Tensor,
        positions: Sequence[Position | None],
        attended_to: list[bool],
        skip: list[Tensor] | None = None,
    ) -> list[Tensor]:
        if skip is not None:
            x = [self.linear(f"{name}.skip_linear", torch.cat([token, other])) for token, other in zip(x, skip, strict=True)]
        six = self.linear(f"{name}.adaLN_modulation.1", F.silu(c)).chunk(6)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = six
        attended = self.attention(
            f"{name}.attn", [norm(token) * (1 + scale_a) + shift_a for token in x], positions, attended_to
        )
        x = [token + gate_a * other for token, other in zip(x, attended, strict=True)]
        hidden = [self.linear(f"{name}.mlp.fc1", norm(token) * (1 + scale_m) + shift_m) for token in x]
        return [token + gate_m * self.linear(f"{name}.mlp.fc2", gelu(h)) for token, h in zip(x, hidden, strict=True)]

    def attention(
        self, name: str, x: list[Tensor], positions: Sequence[Position | None], attended_to: list[bool]
    ) -> list[Tensor]:
        q, k, v = self.linear(f"{name}.qkv", torch.stack(x)).chunk(3, dim=-1)  # [N, D] each, heads side by side
        table = self[f"{name}.rel_pos_bias.relative_position_bias_table"]
        size = q.shape[1] // self.heads
        results = []
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            logits = q[:, part] @ k[:, part].T / math.sqrt(size)
            logits = logits + torch.stack([torch.stack([table[self.row(a, b), head] for b in positions]) for a in positions])
            logits = logits.masked_fill(~torch.tensor(attended_to), -math.inf)
            results.append(torch.softmax(logits, dim=1) @ v[:, part])
        return list(self.linear(f"{name}.proj", torch.cat(results, dim=1)))

    def row(self, query: Position | None, key: Position | None) -> int:
        rows, columns = self.grid
        if query is not None and key is not None:
            return (query.row - key.row + rows - 1) * (2 * columns - 1) + query.column - key.column + columns - 1
        spare = {(True, False): 0, (False, True): 1, (False, False): 2}
        return (2 * rows - 1) * (2 * columns - 1) + spare[query is not None, key is not None]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def blocks(self, group: str) -> int:
        return len({name.split(".")[1] for name in self.state if name.startswith(f"{group}.")})

    def __getitem__(self, name: str) -> Tensor:
        return self.state[name].double()


def norm(x: Tensor) -> Tensor:
    return (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-6)


def gelu(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
