"""Which kernel computes attention is what a forward pass takes, and is looked at without changing it."""

from __future__ import annotations

import pytest
import torch

from open_ldm.denoisers.attention_kernel import AttentionWatch, kernel_of
from open_ldm.denoisers.blocks import attention
from tests.helpers import DENOISERS, randn
from tests.training.small_run import run_updates, small_trainer


def test_the_kernel_is_the_one_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (randn(2, 2, 16, 8, seed=seed) for seed in range(3))
    monkeypatch.setattr(attention, "_NARROW", False)
    assert kernel_of(q, k, v) == "written out"
    monkeypatch.setattr(attention, "_NARROW", True)
    assert kernel_of(q, k, v) == "torch's flash kernel"
    bias = torch.zeros(1, 2, 16, 16, requires_grad=True)
    assert kernel_of(q, k, v, None, bias) == "written out"
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert kernel_of(q, k, v) == "torch's products and softmax"


def test_every_shape_of_a_first_update_is_named_once() -> None:
    trainer = small_trainer(denoiser=DENOISERS["mdtv2"])
    run_updates(trainer, 1)
    sentence = trainer.attentions.sentence
    assert sentence.startswith("attention: written out (22 x 22 with a bias); written out (") and sentence.count("22 x 22") == 1
    run_updates(trainer, 1)  # hides other tokens, and is not looked at
    assert trainer.attentions.sentence == sentence


def test_a_network_without_attention_has_no_sentence() -> None:
    assert AttentionWatch(torch.nn.Linear(2, 2)).sentence == ""
