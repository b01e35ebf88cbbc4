"""Padding, which fills the positions that a caption leaves free (docs/method.md section 2; arXiv 2411.03177).

Padding tokens receive attention and gradient although they carry no meaning. `noisy_replicate` fills their positions with
copies of the caption's own tokens and a little noise, so that every position has a meaning and no two are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PaddingKind = Literal["zero", "mask", "encoder", "replicate", "noisy_replicate"]
NOISE_SCALE = 0.02


@dataclass(frozen=True)
class PaddedText:
    """Tokens [B, L, D] with every position filled, and the attention mask bool [B, L] if padding must not be attended."""

    tokens: Tensor
    mask: Tensor | None


def pad(tokens: Tensor, mask: Tensor, kind: PaddingKind, noise: Tensor | None = None, floor: float = 0.0) -> PaddedText:
    """Fill the positions that a caption leaves free.

    zero: zeros, attended. mask: zeros, not attended. encoder: what the encoder put there. replicate: pad_j = token_(j mod n).
    noisy_replicate: pad_j = token_(j mod n) + 0.02 sqrt(m - 1) std eta with m = ceil(L / n) the number of repeats, std the
    per-channel standard deviation over the caption's tokens and eta = `noise`. A caption of one token has no such deviation;
    std is then `floor` times the root mean square of the token's channels, where these are not 0. Real tokens stay untouched.
    A caption without tokens is padded with zeros.

    Not verified against the paper: the formula and the 0.02 are reconstructed, and the floor is ours.

    Args:
        tokens: Tokens [B, L, D]; in each row the caption's own come first.
        mask: Bool [B, L], True at the caption's own tokens.
        kind: The kind of padding.
        noise: Unit noise [B, L, D], for noisy_replicate.
        floor: At least 0; for noisy_replicate. With 0 the copies of a single token are exact.

    Raises:
        ValueError: `kind` is noisy_replicate and there is no noise.
    """
    if kind == "encoder":
        return PaddedText(tokens, None)
    real = mask.unsqueeze(-1)
    if kind in ("zero", "mask"):
        filled = torch.where(real, tokens, torch.zeros_like(tokens))
        return PaddedText(filled, _never_empty(mask) if kind == "mask" else None)
    count = mask.sum(dim=1)
    position = torch.arange(tokens.shape[1], device=tokens.device)
    origin = position.unsqueeze(0) % count.clamp(min=1).unsqueeze(1)
    copies = tokens.gather(1, origin.unsqueeze(-1).expand_as(tokens))
    if kind == "noisy_replicate":
        if noise is None:
            raise ValueError("noisy_replicate needs noise [B, L, D]")
        repeats = torch.ceil(tokens.shape[1] / count.clamp(min=1))
        strength = NOISE_SCALE * (repeats - 1).clamp(min=0).sqrt().view(-1, 1, 1)
        copies = copies + (strength * _deviation(tokens, real, count, floor) * noise).to(tokens.dtype)
    filled = torch.where(real, tokens, copies)
    return PaddedText(torch.where((count > 0).view(-1, 1, 1), filled, torch.zeros_like(filled)), None)


def pad_segments(
    tokens: Tensor,
    mask: Tensor,
    segments: Sequence[int],
    kind: PaddingKind,
    noise: Tensor | None = None,
    floor: float = 0.0,
) -> PaddedText:
    """Pad a sequence [B, L, D] that consists of segments, each with its caption's tokens first; see `pad`.

    Every segment is filled from its own tokens, so that copies of one encoder's features never appear among another's.

    Args:
        tokens: As in `pad`.
        mask: As in `pad`.
        segments: Number of positions of each segment; they add up to L.
        kind: As in `pad`.
        noise: As in `pad`.
        floor: As in `pad`.
    """
    if len(segments) == 1:
        return pad(tokens, mask, kind, noise, floor)
    sizes = list(segments)
    noises = [None] * len(sizes) if noise is None else torch.split(noise, sizes, dim=1)
    parts = zip(torch.split(tokens, sizes, dim=1), torch.split(mask, sizes, dim=1), noises, strict=True)
    padded = [pad(part, its_mask, kind, its_noise, floor) for part, its_mask, its_noise in parts]
    masks = [part.mask for part in padded if part.mask is not None]
    return PaddedText(torch.cat([part.tokens for part in padded], dim=1), torch.cat(masks, dim=1) if masks else None)


def _deviation(tokens: Tensor, real: Tensor, count: Tensor, floor: float) -> Tensor:
    """Compute the per-channel standard deviation [B, 1, D] over the real tokens; for a single one `floor` times its size."""
    number = count.clamp(min=1).view(-1, 1, 1)
    kept = tokens.masked_fill(~real, 0).float()
    mean = kept.sum(dim=1, keepdim=True) / number
    # The square root has an infinite slope at 0 (a caption of one word); the floor keeps its gradient finite.
    variance = ((kept - mean).masked_fill(~real, 0) ** 2).sum(dim=1, keepdim=True) / number
    deviation = variance.clamp(min=1e-12).sqrt()
    if floor == 0:
        return deviation
    only = kept.sum(dim=1, keepdim=True)  # the token of a caption that has one
    used = only != 0  # a narrower encoder's features end in zeros, which are no part of them
    size = ((only**2).sum(dim=2, keepdim=True) / used.sum(dim=2, keepdim=True).clamp(min=1)).clamp(min=1e-12).sqrt()
    return torch.where(number == 1, floor * size * used, deviation)


def _never_empty(mask: Tensor) -> Tensor:
    """Keep the first position of a caption without tokens: attention over nothing would be NaN."""
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return mask | (first & ~mask.any(dim=1, keepdim=True))
