"""Attention that the probe reads from a running denoiser, against attention computed by hand or forced by the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.inputs import Conditions
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.denoisers import Denoiser
from open_ldm.denoisers.attention_probe import probe_attention
from open_ldm.denoisers.blocks import attention
from open_ldm.denoisers.blocks.attention import Attention
from open_ldm.denoisers.mmdit import MMDiT
from tests.helpers import DENOISERS, SMALL_WORDS, randn, small_model

LENGTH, IMAGE = SMALL_WORDS.length, 16
CONDITIONING = ConditioningConfig(semantic=TextSemantic(encoder=SMALL_WORDS, padding="mask"))
TIMES = torch.tensor([0.2, 0.7])
MASK = torch.arange(LENGTH).expand(2, -1) < torch.tensor([[2], [LENGTH]])
KERNELS = pytest.mark.parametrize("written_out", [True, False])


def build(name: str) -> Any:
    denoiser: Denoiser = small_model(DENOISERS[name], CONDITIONING).eval().denoiser
    return denoiser


def conditions(name: str, mask: Tensor | None = MASK) -> Conditions:
    return Conditions(torch.zeros(2, DENOISERS[name].modulation_dim), randn(2, LENGTH, SMALL_WORDS.width, seed=3), mask)


def share_by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """The weights of one attention in float64, softmax(q k^T / sqrt(head_dim) + bias) over the keys that are not masked."""
    powers = torch.einsum("bhqd,bhkd->bhqk", q.double(), k.double()) / q.shape[-1] ** 0.5
    powers = (powers if bias is None else powers + bias.double()).exp()
    powers = powers if mask is None else powers * mask[:, None, None]
    return powers / powers.sum(dim=-1, keepdim=True)


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@KERNELS
def test_shares_are_those_computed_by_hand(
    name: str, dtype: torch.dtype, written_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "is_written_out", lambda *_: written_out)
    denoiser = build(name)
    denoiser.compute_dtype = dtype
    expected: list[Tensor] = []
    for each in denoiser.context_attentions():

        def add(module: Any, arguments: tuple[Any, ...], keys: str = each.keys) -> None:
            weights = share_by_hand(*arguments)
            if keys == "first":
                weights = weights[:, :, LENGTH:, :LENGTH]
            elif keys == "last":
                weights = weights[:, :, :-LENGTH, -LENGTH:]
            expected.append(weights.mean(dim=(1, 2)))

        each.attention.register_forward_pre_hook(add)
    with torch.no_grad(), probe_attention(denoiser, LENGTH) as probe:
        denoiser(randn(2, 3, 8, 8), TIMES, conditions(name))
    assert len(probe.shares) == len(expected) == len(denoiser.context_attentions())
    for found, wanted in zip(probe.shares, expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-7)  # float32, whatever the kernel computes in


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("size", [(8, 8), (48, 48)])
@KERNELS
def test_every_denoiser_is_probed_and_none_is_changed(
    name: str, size: tuple[int, int], written_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused: list[int] = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *args, **more: fused.append(1) or kernel(*args, **more))
    monkeypatch.setattr(attention, "is_written_out", lambda *_: written_out)
    denoiser = build(name)
    x, given = randn(2, 3, *size), conditions(name)
    with torch.no_grad():
        before = denoiser(x, TIMES, given).mean
        with probe_attention(denoiser, LENGTH) as probe:
            during = denoiser(x, TIMES, given).mean
        after = denoiser(x, TIMES, given).mean
    assert bool(fused) != written_out
    assert torch.equal(before, during) and torch.equal(before, after)
    shares = torch.stack(probe.shares)
    assert shares.shape[1:] == (2, LENGTH) and len(shares) >= 2
    assert not shares[:, 0, 2:].any()  # masked tokens get nothing, which a wrong slice of the keys would not show
    assert bool((shares[:, 0, :2] > 0).all()) and bool((shares[:, 1] > 0).all())
    totals = shares.sum(dim=-1)
    assert bool((totals <= 1 + 1e-5).all())
    crosses = name.startswith(("unet", "pixart"))
    assert bool(torch.isclose(totals, torch.ones(())).all()) == crosses


@pytest.mark.parametrize(
    ("name", "whole", "backend"), [("mmdit", False, "aot_eager"), ("pixart", False, "eager"), ("dit", True, "aot_eager")]
)
def test_a_compiled_denoiser_is_probed_too(name: str, whole: bool, backend: str) -> None:
    graphs: list[int] = []
    inner = torch._dynamo.lookup_backend(backend)

    def counting(graph: Any, inputs: Any) -> Any:
        graphs.append(1)
        return inner(graph, inputs)

    torch._dynamo.reset()
    denoiser, x, given = build(name), randn(2, 3, 8, 8), conditions(name)
    with torch.no_grad():
        with probe_attention(denoiser, LENGTH) as plain:
            denoiser(x, TIMES, given)
        for module in [denoiser] if whole else denoiser.block_modules():
            module.compile(backend=counting, fullgraph=True)
        before = denoiser(x, TIMES, given).mean
        compiled = len(graphs)
        with probe_attention(denoiser, LENGTH) as probe:
            denoiser(x, TIMES, given)
        after = denoiser(x, TIMES, given).mean
    torch._dynamo.reset()
    assert 0 < compiled == len(graphs), "the network was compiled, and not once more for the probe or behind it"
    assert len(probe.shares) == len(plain.shares) > 0
    assert all(torch.equal(one, other) for one, other in zip(probe.shares, plain.shares, strict=True))
    assert torch.equal(before, after)


class Blind(Attention):
    """An attention that a probe cannot see, as one in a compiled region whose guards were dropped."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        return attention.attend(q, k, v, mask, bias)


@pytest.mark.parametrize("blind", [1, 2])
def test_a_probe_that_does_not_see_every_attention_says_so(blind: int) -> None:
    denoiser = build("mmdit")
    for block in denoiser.blocks[:blind]:
        block.attention = Blind()
    with (
        pytest.raises(RuntimeError, match=f"recorded {2 - blind} of the denoiser's 2 attentions"),
        torch.no_grad(),
        probe_attention(denoiser, LENGTH),
    ):
        denoiser(randn(2, 3, 8, 8), TIMES, conditions("mmdit"))
    assert all(each.attention.on_weights is None for each in denoiser.context_attentions())


def test_a_denoiser_that_did_not_run_or_has_no_context_is_refused() -> None:
    with pytest.raises(RuntimeError, match="recorded 0 of"), probe_attention(build("dit"), LENGTH):
        pass
    for config in DENOISERS.values():
        plain = small_model(config).denoiser
        with pytest.raises(ValueError, match="no attention to the context"), probe_attention(plain, LENGTH):
            pass


def test_an_error_within_the_probe_is_the_one_that_is_seen() -> None:
    denoiser = build("dit")
    with pytest.raises(ZeroDivisionError), probe_attention(denoiser, LENGTH):
        raise ZeroDivisionError
    assert all(each.attention.on_weights is None for each in denoiser.context_attentions())


def test_the_shares_of_a_joint_block_are_those_computed_by_hand() -> None:
    denoiser = build("mmdit")
    assert isinstance(denoiser, MMDiT)
    block: Any = denoiser.blocks[0]
    kept: list[tuple[Tensor, ...]] = []
    block.register_forward_pre_hook(lambda module, arguments: kept.append(arguments))
    with torch.no_grad():
        with probe_attention(denoiser, LENGTH) as probe:
            denoiser(randn(2, 3, 8, 8), TIMES, conditions("mmdit", mask=None))
        x, context, vector, _ = kept[0]
        image, words = block.image.modulation(vector), block.context.modulation(vector)
        q, _, _ = block.image.project_qkv(x, *image[:2])
        context_k, image_k = block.context.project_qkv(context, *words[:2])[1], block.image.project_qkv(x, *image[:2])[1]
        weights = (q @ torch.cat([context_k, image_k], dim=2).transpose(-1, -2) * q.shape[-1] ** -0.5).exp()
        wanted = (weights / weights.sum(dim=-1, keepdim=True))[..., :LENGTH].mean(dim=(1, 2))
    torch.testing.assert_close(probe.shares[0], wanted)


def test_self_attention_beside_cross_attention_is_not_taken_for_it() -> None:
    # As many tokens in the picture as in the context: only the module tells them apart.
    encoder = SMALL_WORDS.model_copy(update={"length": IMAGE})
    config = ConditioningConfig(semantic=TextSemantic(encoder=encoder))
    model = small_model(DENOISERS["pixart"], config).eval()
    context = Conditions(torch.zeros(2, model.conditioning.width), randn(2, IMAGE, encoder.width, seed=3))
    with torch.no_grad(), probe_attention(model.denoiser, IMAGE) as probe:
        model.denoiser(randn(2, 3, 8, 8), TIMES, context)
    assert len(probe.shares) == len(model.denoiser.block_modules())
