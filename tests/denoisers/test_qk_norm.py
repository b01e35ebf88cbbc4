"""`denoiser.qk_norm` in the transformers: off, nothing moves; on, queries and keys are normalised per head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.inputs import Conditions
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import Draws
from open_ldm.denoisers import (
    Denoiser,
    DenoiserConfig,
    DiTConfig,
    MDTv2Config,
    MMDiTConfig,
    PixArtConfig,
    Slots,
    build_denoiser,
)
from open_ldm.denoisers.blocks.cross_attention import CrossAttention
from open_ldm.denoisers.blocks.self_attention import SelfAttention
from open_ldm.interop.catalogue import FAMILIES
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from tests.helpers import CLASSES, DENOISERS, VIEW, randn, randomise, relative

B, T, L, D, HEADS = 2, 5, 3, 12, 3
KINDS = pytest.mark.parametrize("kind", ["dit", "pixart", "mdtv2", "mmdit"])
ATTENTIONS_OF_A_BLOCK = {"dit": 1, "pixart": 2, "mdtv2": 1, "mmdit": 2}
"""With weights for q and k each; mmDiT has them for each of its two streams."""


def normed(x: Tensor, weight: Tensor) -> Tensor:
    """Heads [B, heads, T, head_dim] of [B, T, D], each normalised as Zhang & Sennrich 2019 write it."""
    heads = x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)
    return heads / (heads.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v of heads, side by side."""
    weights = (q @ k.transpose(-1, -2) / (D // HEADS) ** 0.5).softmax(-1)
    return (weights @ v.view(B, -1, HEADS, D // HEADS).transpose(1, 2)).transpose(1, 2).reshape(B, -1, D)


def test_self_attention_normalises_queries_and_keys_of_each_head() -> None:
    layer: SelfAttention = randomise(SelfAttention(D, HEADS, qk_norm="rms"))
    x = randn(B, T, D)
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    expected = layer.proj(attended(normed(q, layer.norm_q.weight), normed(k, layer.norm_k.weight), v))
    torch.testing.assert_close(layer(x), expected)


def test_cross_attention_normalises_queries_and_keys_of_each_head() -> None:
    layer: CrossAttention = randomise(CrossAttention(D, HEADS, context_dim=7, qk_norm="rms"))
    x, context = randn(B, T, D), randn(B, L, 7, seed=1)
    k, v = layer.kv(context).chunk(2, dim=-1)
    expected = layer.proj(attended(normed(layer.q(x), layer.norm_q.weight), normed(k, layer.norm_k.weight), v))
    torch.testing.assert_close(layer(x, context, None), expected)


def built(config: DenoiserConfig) -> Denoiser:
    torch.manual_seed(0)
    return build_denoiser(config, Slots(4, 20))


def with_norm(kind: str) -> Any:
    return DENOISERS[kind].model_copy(update={"qk_norm": "rms"})


@KINDS
def test_each_attention_has_a_weight_for_q_and_one_for_k_and_all_learn(kind: str) -> None:
    plain, rms = built(DENOISERS[kind]), built(with_norm(kind))
    before, after = dict(plain.named_parameters()), dict(rms.named_parameters())
    assert all(torch.equal(after[name], weight) for name, weight in before.items())  # they start from the same draws
    added = after.keys() - before.keys()
    assert len(added) == 2 * ATTENTIONS_OF_A_BLOCK[kind] * len(rms.block_modules())
    assert {name.split(".")[-2] for name in added} == {"norm_q", "norm_k"}
    randomise(rms)
    given = Conditions(randn(2, 32, seed=2), randn(2, 5, 20, seed=3))
    for each in rms.training_passes(Draws(0, (0, 1), 2, torch.device("cpu"))):
        torch.autograd.backward(each.forward(randn(2, 4, 8, 8), torch.tensor([3.0, 700.0]), given).mean.square().sum())
    unread = "blocks.1.context.norm_q.weight"  # as published, nothing reads the last block's context of an mmDiT
    assert all(after[name].grad is not None and after[name].grad.any() for name in added - {unread})


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_larger_queries_and_keys_change_nothing(kind: str, dtype: torch.dtype) -> None:
    denoiser = randomise(built(with_norm(kind))).eval()
    denoiser.compute_dtype = dtype
    given = torch.tensor([3.0, 700.0]), Conditions(randn(2, 32, seed=2), randn(2, 5, 20, seed=3))
    x = randn(2, 4, 8, 8)
    before = denoiser(x, *given).mean
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            rows = {"qkv": len(parameter) // 3 * 2, "q": len(parameter), "kv": len(parameter) // 2}.get(name.split(".")[-2], 0)
            parameter[:rows] *= 4
    after = denoiser(x, *given).mean
    assert after.dtype == torch.float32 and relative(after, before) < (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("config", [DiTConfig(), PixArtConfig(), MDTv2Config()])
def test_a_recipe_that_never_had_the_setting_is_written_and_read_as_before(config: Any) -> None:
    written = config.model_dump(mode="json")
    assert "qk_norm" not in written and type(config).model_validate(written).qk_norm == "none"
    assert config.model_copy(update={"qk_norm": "rms"}).model_dump()["qk_norm"] == "rms"
    assert MMDiTConfig().model_dump()["qk_norm"] == "none"  # mmDiT's recipes always said it


@pytest.mark.parametrize("layout", ["diffusers", "original"])
@pytest.mark.parametrize("kind", ["dit", "pixart"])
def test_published_layouts_refuse_what_they_cannot_hold(kind: str, layout: Any) -> None:

    conditioning = ConditioningConfig(semantic=ClassSemantic(route="modulation"))
    spec = ModelSpec(ProcessConfig(), conditioning, with_norm(kind), DataFacts(4, VIEW, CLASSES, latent_size=(8, 8)))
    with pytest.raises(ConfigError, match=r"qk_norm=rms; needed: .*fix: "):
        FAMILIES[kind].key_map(spec, layout)
    if layout == "diffusers":
        with pytest.raises(ConfigError, match="qk_norm=rms"):
            FAMILIES[kind].peer(spec)


def test_the_published_mdtv2_has_no_place_for_it() -> None:
    facts = DataFacts(4, VIEW, CLASSES, latent_size=(8, 8))
    conditioning = ConditioningConfig(semantic=ClassSemantic(route="modulation"))
    with pytest.raises(ConfigError, match="qk_norm=rms"):
        FAMILIES["mdtv2"].key_map(ModelSpec(ProcessConfig(), conditioning, with_norm("mdtv2"), facts), "original")
