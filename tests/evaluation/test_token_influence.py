"""Attention and gradient on caption tokens and padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from open_ldm.autoencoders import LatentStats
from open_ldm.autoencoders.base import Posterior
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.core.errors import ConfigError
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.evaluation.token_influence import TokenInfluence, token_influence
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import Noising, ObjectiveInputs
from open_ldm.process.prediction import target
from open_ldm.process.time_density import UniformTimes
from tests.helpers import SMALL_MMDIT, SMALL_WORDS, randn, small_model, text_of

STATS = LatentStats(mean=(0.0,) * 3, std=(1.0,) * 3)
COUNT, LENGTH = 5, SMALL_WORDS.length  # captions of 1, 2, 3, 4 and 5 of 6 words


def conditioning(**choices: Any) -> ConditioningConfig:
    return ConditioningConfig(semantic=TextSemantic(encoder=SMALL_WORDS, **choices), semantic_drop=0, control_drop=0)


def drawn(config: ConditioningConfig) -> ObjectiveInputs:
    batch = EncodedBatch(tuple(range(COUNT)), Posterior(randn(COUNT, 3, 8, 8)), None, text_of(COUNT), {})
    return Noising(0, COUNT, STATS, config, UniformTimes(), None, torch.device("cpu")).draw(batch)


def model(config: ConditioningConfig) -> DiffusionModel:
    return small_model(SMALL_MMDIT, config).eval().requires_grad_(False)


def measured(config: ConditioningConfig) -> TokenInfluence:
    return token_influence(model(config), drawn(config), (0.2, 0.8))


def test_what_is_masked_gets_neither_attention_nor_gradient() -> None:
    found = measured(conditioning(padding="mask"))
    assert found.pictures == COUNT and found.padding_places == pytest.approx(15 / 30)
    assert found.attention_padding == 0 and found.gradient_padding == 0
    assert found.attention_tokens > 0 and sum(found.by_block) == 0
    assert found.by_time == ((0.2, 0.0, 0.0), (0.8, 0.0, 0.0))


@pytest.mark.parametrize("padding", ["zero", "replicate", "noisy_replicate"])
def test_padding_that_is_attended_gets_its_share(padding: Any) -> None:
    found = measured(conditioning(padding=padding))
    assert 0 < found.attention_padding < 1 - found.attention_tokens
    assert 0 < found.gradient_padding < 1
    assert len(found.by_block) == 2 and sum(found.by_block) / 2 == pytest.approx(found.attention_padding, rel=1e-4)
    assert sum(share for _, share, _ in found.by_time) / 2 == pytest.approx(found.attention_padding, rel=1e-4)
    # Every caption has a first word, and none has a sixth.
    assert found.attention.padding[0] != found.attention.padding[0]
    assert found.attention.token[5] != found.attention.token[5]
    assert found.to_json()["attention"]["padding"][0] is None


def test_the_gradient_is_that_of_the_loss() -> None:
    config = conditioning(padding="zero")
    network, batch = model(config), drawn(config)
    found = token_influence(network, batch, (0.4,))
    t = torch.full((COUNT,), 0.4)
    eps = batch.draws.normal("token noise", (3, 8, 8))
    conditions = network.conditioning(batch.inputs, t)
    assert conditions.context is not None
    step, x_t = 1e-2, network.schedule.noised(batch.x_0, eps, t)
    direction = randn(*conditions.context.shape, seed=9) * torch.arange(LENGTH).eq(2).view(1, -1, 1)

    def loss(amount: float) -> torch.Tensor:
        changed = replace(conditions, context=conditions.context + amount * direction)
        prediction = network.denoiser(x_t, network.schedule.network_time(t), changed)
        error = prediction.mean - target(network.kind, batch.x_0, eps, network.schedule.level(t))
        return error.square().flatten(1).mean(dim=1)

    context = conditions.context.detach().requires_grad_(True)
    conditions = replace(conditions, context=context)
    (slope,) = torch.autograd.grad(loss(0.0).sum(), context)
    with torch.no_grad():
        numeric = (loss(step) - loss(-step)) / (2 * step)
    torch.testing.assert_close((slope * direction).sum(dim=(1, 2)), numeric, atol=1e-4, rtol=2e-2)
    norms = slope.norm(dim=-1)
    share = norms / norms.sum(dim=1, keepdim=True)
    padded = ~text_of(COUNT).mask
    assert found.gradient_padding == pytest.approx(float((share * padded).sum(dim=1).mean()), rel=1e-4)
    assert found.gradient.token[0] == pytest.approx(float(share[:, 0].mean()), rel=1e-4)
    assert found.gradient.padding[5] == pytest.approx(float(share[:, 5].mean()), rel=1e-4)


def test_pictures_without_a_caption_are_left_out() -> None:
    config = conditioning(padding="zero")
    batch = drawn(config)
    assert batch.inputs.text is not None
    batch.inputs.text.mask[0] = False
    assert token_influence(model(config), batch, (0.5,)).pictures == COUNT - 1
    batch.inputs.text.mask[:] = False
    with pytest.raises(ConfigError, match="none of the pictures has a caption"):
        token_influence(model(config), batch, (0.5,))


@pytest.mark.parametrize("config", [conditioning(route="modulation"), ConditioningConfig(semantic=ClassSemantic())])
def test_models_without_caption_tokens_are_refused(config: ConditioningConfig) -> None:
    batch = drawn(conditioning())
    if isinstance(config.semantic, ClassSemantic):
        batch = replace(batch, inputs=replace(batch.inputs, text=None, labels=torch.zeros(COUNT, dtype=torch.long)))
    with pytest.raises(ConfigError, match="reads no caption tokens"):
        token_influence(model(config), batch)
