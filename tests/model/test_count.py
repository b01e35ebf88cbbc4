"""Counting equal blocks once gives what counting all of them gives; published counts are in tests/denoisers."""

from __future__ import annotations

from typing import Any

import pytest

from open_ldm.conditioning import ConditioningConfig
from open_ldm.denoisers import DiTConfig
from open_ldm.denoisers.blocks.routing import RoutingConfig
from open_ldm.denoisers.dit import DiTBlock
from open_ldm.model import count
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from tests.helpers import CLASSES, DENOISERS, SMALL, VIEW, WORDS

FACTS = DataFacts(3, VIEW, CLASSES, WORDS, latent_size=(8, 8))


@pytest.mark.parametrize("name", DENOISERS)
def test_equal_blocks_count_as_if_each_had_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(ProcessConfig(), ConditioningConfig(), DENOISERS[name], FACTS)
    found = count.count_model(spec, (8, 8))
    monkeypatch.setattr(count._EqualBlocks, "_watch", lambda *_: None)
    assert found == count.count_model(spec, (8, 8)) and found.gmacs > 0


def test_of_equal_blocks_one_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    computed, really = [], DiTBlock.forward

    def forward(self: DiTBlock, *given: Any) -> Any:
        computed.append(self)
        return really(self, *given)

    monkeypatch.setattr(DiTBlock, "forward", forward)
    for depth in (1, 5):
        spec = ModelSpec(ProcessConfig(), ConditioningConfig(), DiTConfig(**{**SMALL, "depth": depth}), FACTS)
        count.count_model(spec, (8, 8))
    assert len(computed) == 2


def test_training_counts_the_passes_of_a_step() -> None:
    """By hand: the block's products of K in place of T tokens; MDTv2's second pass comes on top; else training is sampling."""
    for name, denoiser in DENOISERS.items():
        found = count.count_model(ModelSpec(ProcessConfig(), ConditioningConfig(), denoiser, FACTS), (8, 8))
        second = getattr(denoiser, "mask_ratio", None) is not None
        assert (found.training_gmacs > 1.2 * found.gmacs) if second else (found.training_gmacs == found.gmacs), name
    plain = DiTConfig(size="XS", patch=1, depth=5, width=16, heads=2)
    tokens, kept, width, middle = 64, 16, 16, 2
    routed = plain.model_copy(update={"routing": RoutingConfig(share=0.75, first=1, last=2)})
    found = count.count_model(ModelSpec(ProcessConfig(), ConditioningConfig(), routed, FACTS), (8, 8))
    products = middle * (tokens - kept) * 12 * width**2
    attention = middle * (tokens**2 - kept**2) * 2 * width
    assert found.gmacs == count.count_model(ModelSpec(ProcessConfig(), ConditioningConfig(), plain, FACTS), (8, 8)).gmacs
    assert (found.gmacs - found.training_gmacs) * 1e9 == pytest.approx(products + attention, rel=1e-9)
