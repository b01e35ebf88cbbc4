"""Attention that is read off a running denoiser, against attention computed by hand or forced by the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.inputs import Conditions
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.denoisers.attention_probe import watching
from open_ldm.denoisers.blocks import attention
from open_ldm.denoisers.mmdit import MMDiT
from tests.helpers import DENOISERS, SMALL_WORDS, randn, small_model

LENGTH, IMAGE = SMALL_WORDS.length, 16
CONDITIONING = ConditioningConfig(semantic=TextSemantic(encoder=SMALL_WORDS, padding="mask"))
TIMES = torch.tensor([0.2, 0.7])


def conditions(model: Any, mask: Tensor | None = None) -> Conditions:
    return Conditions(torch.zeros(2, model.conditioning.width), randn(2, LENGTH, SMALL_WORDS.width, seed=3), mask)


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("written_out", [True, False])
def test_every_denoiser_is_watched_and_none_is_changed(name: str, written_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_written_out_is_faster", lambda *_: written_out)
    model = small_model(DENOISERS[name], CONDITIONING).eval()
    mask = torch.arange(LENGTH).expand(2, -1) < torch.tensor([[2], [LENGTH]])
    x, given = randn(2, 3, 8, 8), conditions(model, mask)
    with torch.no_grad():
        unseen = model.denoiser(x, TIMES, given).mean
        with watching(model.denoiser, LENGTH) as watched:
            seen = model.denoiser(x, TIMES, given).mean
        after = model.denoiser(x, TIMES, given).mean
    assert torch.equal(unseen, seen) and torch.equal(unseen, after)
    shares = torch.stack([one.shares for one in watched])
    assert shares.shape[1:] == (2, LENGTH) and len(shares) >= 2
    assert not shares[:, 0, 2:].any()  # masked places get nothing, which a wrong slice of the keys would not show
    assert bool((shares[:, 0, :2] > 0).all()) and bool((shares[:, 1] > 0).all())
    totals = shares.sum(dim=-1)
    assert bool((totals <= 1 + 1e-5).all())
    crosses = name.startswith(("unet", "pixart"))
    assert bool(torch.isclose(totals, torch.ones(())).all()) == crosses


def test_the_shares_of_a_joint_block_are_those_computed_by_hand() -> None:
    model = small_model(DENOISERS["mmdit"], CONDITIONING).eval()
    assert isinstance(model.denoiser, MMDiT)
    block, given = model.denoiser.blocks[0], conditions(model)
    kept: list[tuple[Tensor, ...]] = []
    block.register_forward_pre_hook(lambda module, arguments: kept.append(arguments))
    with torch.no_grad(), watching(model.denoiser, LENGTH) as watched:
        model.denoiser(randn(2, 3, 8, 8), TIMES, given)
        x, context, vector, _ = kept[0]
        image, words = block.image.modulation(vector), block.context.modulation(vector)
        q, _, _ = block.image.give(x, *image[:2])
        keys = torch.cat([block.context.give(context, *words[:2])[1], block.image.give(x, *image[:2])[1]], dim=2)
        weights = (q @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5).exp()
        wanted = (weights / weights.sum(dim=-1, keepdim=True))[..., :LENGTH].mean(dim=(1, 2))
    torch.testing.assert_close(watched[0].shares, wanted)


def test_self_attention_beside_cross_attention_is_not_taken_for_it() -> None:
    # As many places in the picture as in the context: only the module tells them apart.
    encoder = SMALL_WORDS.model_copy(update={"length": IMAGE})
    config = ConditioningConfig(semantic=TextSemantic(encoder=encoder))
    model = small_model(DENOISERS["pixart"], config).eval()
    context = Conditions(torch.zeros(2, model.conditioning.width), randn(2, IMAGE, encoder.width, seed=3))
    with torch.no_grad(), watching(model.denoiser, IMAGE) as watched:
        model.denoiser(randn(2, 3, 8, 8), TIMES, context)
    assert len(watched) == len(model.denoiser.blocks)  # type: ignore[arg-type]
