from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from open_ldm.denoisers.blocks import attention
from tests.helpers import randn


@pytest.mark.parametrize("length", [3, 64, 300])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 2])  # of the bias: none, one for all pictures, one each
def test_every_kernel_gives_the_same(length: int, masked: bool, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (randn(2, 2, length, 8, seed=seed).requires_grad_() for seed in range(3))
    mask = torch.arange(length) < torch.tensor([[length], [2]]) if masked else None
    bias = randn(rows, 2, length, length, seed=3).requires_grad_() if rows else None
    leaves = (q, k, v) if bias is None else (q, k, v, bias)
    added = torch.zeros(1, 1, 1, 1, dtype=torch.float64) if bias is None else bias.double()
    if mask is not None:
        added = added.masked_fill(~mask[:, None, None, :], float("-inf"))
    wanted = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), added.expand(-1, -1, length, length))
    gradients = torch.autograd.grad(wanted.square().sum(), leaves)
    for written_out in (False, True):
        monkeypatch.setattr(attention, "is_written_out", lambda *given, chosen=written_out: chosen)
        found = attention.attend(q, k, v, mask, bias)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(torch.autograd.grad(found.square().sum(), leaves), gradients, strict=True):
            torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("written_out", [False, True])
def test_a_row_without_keys_gives_zeros_and_no_gradient(
    written_out: bool, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "is_written_out", lambda *given: written_out)
    q, k, v = (randn(2, 2, 5, 8, seed=seed).requires_grad_() for seed in range(3))
    bias = randn(1, 2, 5, 5, seed=3) if biased else None
    mask = torch.tensor([[False] * 5, [True, True, False, True, False]])
    found = attention.attend(q, k, v, mask, bias)
    gradients = torch.autograd.grad(found.square().sum(), (q, k, v))
    for tensor in (found, *gradients):
        assert torch.equal(tensor[0], torch.zeros_like(tensor[0]))
        assert tensor[1].isfinite().all() and tensor[1].abs().sum() > 0


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("written_out", [False, True])
def test_the_weights_are_those_by_which_the_values_are_averaged(
    written_out: bool, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "is_written_out", lambda *given: written_out)
    q, k, v = (randn(3, 2, length, 8, seed=seed).requires_grad_() for seed, length in enumerate((4, 7, 7)))
    bias = randn(1, 2, 4, 7, seed=3) if biased else None
    mask = torch.tensor([[True] * 7, [False] * 7, [True, False, False, True, True, False, False]])
    weights = attention.attention_weights(q, k, mask, bias)
    assert weights.dtype == torch.float32 and not weights.requires_grad
    torch.testing.assert_close(weights @ v, attention.attend(q, k, v, mask, bias))
    torch.testing.assert_close(weights.sum(dim=-1), torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1).expand(3, 2, 4))
    assert not weights.masked_select(~mask[:, None, None]).any()
    given: list[Tensor] = []
    module = attention.Attention()
    module.on_weights = given.append
    assert torch.equal(module(q, k, v, mask, bias), attention.attend(q, k, v, mask, bias))
    assert torch.equal(given[0], weights) and not module.state_dict()


def test_heads_are_split_as_q_k_v_and_merged_back() -> None:
    qkv = torch.arange(2 * 3 * 24.0).view(2, 3, 24)
    q, k, v = attention.split_heads(qkv, heads=2, parts=3)
    assert q.shape == (2, 2, 3, 4)
    assert torch.equal(attention.merge_heads(q), qkv[..., :8])
    assert torch.equal(attention.merge_heads(k), qkv[..., 8:16])
    assert torch.equal(v[:, 1], qkv[..., 20:])
