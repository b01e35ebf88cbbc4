"""Counting equal blocks once gives what counting all of them gives; published counts are in tests/denoisers."""

from __future__ import annotations

from typing import Any

import pytest

from open_ldm.conditioning import ConditioningConfig
from open_ldm.denoisers import DiTConfig
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
