from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from open_ldm.denoisers.blocks.attention import attend
from open_ldm.text.padding import PaddingKind, pad, pad_segments
from tests.helpers import randn

L, D = 9, 6
COUNTS = torch.tensor([1, 2, 4, 5, 8, 9])
MASK = torch.arange(L) < COUNTS.unsqueeze(1)
TOKENS = randn(len(COUNTS), L, D, seed=1)
NOISE = randn(len(COUNTS), L, D, seed=2)
KINDS: list[PaddingKind] = ["zero", "mask", "encoder", "replicate", "noisy_replicate"]


def by_loop(tokens: Tensor, count: int, noise: Tensor, scale: float) -> Tensor:
    """pad_j = token_(j mod n) + scale sqrt(m - 1) std eta, place by place, in float64."""
    tokens, noise = tokens.double(), noise.double()
    repeats = math.ceil(L / count)
    std = tokens[:count].std(dim=0, unbiased=False)
    rows = [tokens[j] if j < count else tokens[j % count] for j in range(L)]
    for j in range(count, L):
        rows[j] = rows[j] + scale * math.sqrt(repeats - 1) * std * noise[j]
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_real_tokens_stay_untouched(kind: PaddingKind) -> None:
    padded = pad(TOKENS, MASK, kind, NOISE)
    assert padded.tokens.shape == TOKENS.shape
    assert torch.equal(padded.tokens[MASK], TOKENS[MASK])
    assert (padded.mask is not None) == (kind == "mask")


@pytest.mark.parametrize("kind", ["zero", "mask"])
def test_free_places_are_zero(kind: PaddingKind) -> None:
    padded = pad(TOKENS, MASK, kind)
    assert not padded.tokens[~MASK].any()
    if kind == "mask":
        assert padded.mask is not None
        assert torch.equal(padded.mask, MASK)


def test_encoder_leaves_everything() -> None:
    assert torch.equal(pad(TOKENS, MASK, "encoder").tokens, TOKENS)


@pytest.mark.parametrize(("kind", "scale"), [("replicate", 0.0), ("noisy_replicate", 0.02)])
def test_copies_follow_the_formula(kind: PaddingKind, scale: float) -> None:
    padded = pad(TOKENS, MASK, kind, NOISE).tokens
    for row, count in enumerate(COUNTS.tolist()):
        wanted = by_loop(TOKENS[row], count, NOISE[row], scale)
        torch.testing.assert_close(padded[row].double(), wanted, atol=1e-6, rtol=0)


def test_noise_makes_copies_differ_and_replicate_does_not() -> None:
    plain, noisy = (pad(TOKENS, MASK, kind, NOISE).tokens[1] for kind in ("replicate", "noisy_replicate"))
    assert torch.equal(plain[2], plain[4])
    assert not torch.allclose(noisy[2], noisy[4], atol=1e-4)


def test_noise_beyond_the_caption_alone_matters() -> None:
    other = torch.where(MASK.unsqueeze(-1), NOISE + 1, NOISE)
    assert torch.equal(pad(TOKENS, MASK, "noisy_replicate", NOISE).tokens, pad(TOKENS, MASK, "noisy_replicate", other).tokens)


def test_what_an_encoder_leaves_behind_a_caption_does_not_matter() -> None:
    other = torch.where(MASK.unsqueeze(-1), TOKENS, TOKENS + 100)
    for kind in ("zero", "mask", "replicate", "noisy_replicate"):
        assert torch.equal(pad(TOKENS, MASK, kind, NOISE).tokens, pad(other, MASK, kind, NOISE).tokens)


@pytest.mark.parametrize("kind", ["zero", "mask", "replicate", "noisy_replicate"])
def test_an_empty_caption_becomes_zeros(kind: PaddingKind) -> None:
    mask = torch.zeros_like(MASK)
    padded = pad(TOKENS, mask, kind, NOISE)
    assert not padded.tokens.any()


@pytest.mark.parametrize("kind", KINDS)
def test_one_word_has_a_finite_gradient(kind: PaddingKind) -> None:
    tokens = TOKENS.clone().requires_grad_()
    torch.autograd.backward(pad(tokens, MASK, kind, NOISE).tokens.square().sum())
    assert tokens.grad is not None
    assert bool(torch.isfinite(tokens.grad).all())
    assert bool((tokens.grad[MASK] != 0).all())


@pytest.mark.parametrize("length", [L, 600])
def test_mask_never_yields_nan_in_attention(length: int) -> None:
    mask = torch.zeros(3, length, dtype=torch.bool)
    mask[1, :2] = True
    padded = pad(randn(3, length, D), mask, "mask")
    assert padded.mask is not None
    assert bool(padded.mask.any(dim=1).all())
    heads = padded.tokens.unsqueeze(1)
    assert bool(torch.isfinite(attend(heads, heads, heads, padded.mask)).all())


def test_noisy_replicate_without_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="noise"):
        pad(TOKENS, MASK, "noisy_replicate")


def test_a_floor_gives_one_token_a_spread_and_changes_no_other_caption() -> None:
    exact, spread = (pad(TOKENS, MASK, "noisy_replicate", NOISE, floor).tokens for floor in (0.0, 0.5))
    many = COUNTS > 1
    assert torch.equal(exact[many], spread[many])
    token = TOKENS[0, 0].double()
    size = math.sqrt(sum(value**2 for value in token.tolist()) / D)
    for place in range(1, L):
        assert torch.allclose(exact[0, place].double(), token, atol=1e-6)
        wanted = token + 0.02 * math.sqrt(L - 1) * 0.5 * size * NOISE[0, place].double()
        torch.testing.assert_close(spread[0, place].double(), wanted, atol=1e-6, rtol=0)
    assert torch.equal(spread[0, 0], TOKENS[0, 0])


def test_a_floor_of_one_half_is_the_mean_spread_of_two_tokens_at_sixty_degrees() -> None:
    one, other = randn(2, 4096, seed=5).double()
    other = other - one * (one @ other) / (one @ one)
    one, other = one / one.norm(), other / other.norm()
    pair = torch.stack([one, 0.5 * one + math.sqrt(0.75) * other])
    spread = pair.std(dim=0, unbiased=False).square().mean().sqrt()
    assert float(spread / one.square().mean().sqrt()) == pytest.approx(0.5, abs=1e-6)


def test_each_segment_has_its_own_floor() -> None:
    tokens, noise = randn(1, 8, 4, seed=3), randn(1, 8, 4, seed=4)
    mask = torch.tensor([[True, False, False, False, True, True, False, False]])
    exact, spread = (pad_segments(tokens, mask, (4, 4), "noisy_replicate", noise, floor).tokens for floor in (0.0, 0.5))
    assert not torch.equal(exact[:, 1:4], spread[:, 1:4]) and torch.equal(exact[:, 4:], spread[:, 4:])


def test_gradients_of_a_floored_token_are_finite() -> None:
    tokens = torch.zeros(1, 3, 4, requires_grad=True)
    mask = torch.tensor([[True, False, False]])
    pad(tokens, mask, "noisy_replicate", randn(1, 3, 4), 0.5).tokens.square().sum().backward()
    assert tokens.grad is not None and bool(tokens.grad.isfinite().all())
