"""`denoiser.routing`: in training some tokens go around the middle blocks; against running those picture by picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from open_ldm.conditioning.inputs import Conditions
from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import Draws
from open_ldm.denoisers import DiTConfig, MDTv2Config, MMDiTConfig, PixArtConfig, Slots, UNetConfig, build_denoiser
from open_ldm.denoisers.base import TransformerConfig
from open_ldm.denoisers.blocks.routing import RoutingConfig
from open_ldm.model.alignment import Alignment, AlignmentConfig
from tests.helpers import randn, randomise

CONFIGS: dict[str, type[TransformerConfig]] = {"dit": DiTConfig, "pixart": PixArtConfig, "mmdit": MMDiTConfig}
ROUTING = RoutingConfig(share=0.5, first=1, last=2)
B, L, CONTEXT = 3, 4, 10


def build(kind: str, routing: RoutingConfig | None = ROUTING, depth: int = 5) -> Any:
    config = CONFIGS[kind](size="XS", patch=2, depth=depth, width=24, heads=2, routing=routing)
    return randomise(build_denoiser(config, Slots(3, CONTEXT)))


def conditions(masked: bool) -> Conditions:
    mask = torch.tensor([[True] * 4, [True, True, False, True], [True, False, False, False]]) if masked else None
    return Conditions(randn(B, 24, seed=7), randn(B, L, CONTEXT, seed=8), mask)


def draws(positions: tuple[int, ...]) -> Draws:
    return Draws(5, positions, 8, torch.device("cpu"))


def one_by_one(kind: str, denoiser: Any, x_t: Tensor, time: Tensor, given: Conditions, kept: Tensor) -> Tensor:
    """The same without a route: each middle block runs on every picture alone, on its kept tokens and the context, and gives
    back all others as they came."""
    T = kept.shape[1] * 2

    def narrowed(written: Any) -> Any:
        def run(x: Tensor, *rest: Any) -> Any:
            found = []
            for i, mine in enumerate(kept):
                chosen = torch.cat([mine, torch.arange(T, x.shape[1])])
                alone = [None if each is None else each[i : i + 1] for each in rest]
                if kind != "pixart" and alone[-1] is not None:
                    alone[-1] = of_fewer(alone[-1], kind, len(mine))
                image, *context = as_tuple(written(x[i : i + 1, chosen], *alone))
                whole = x[i : i + 1].clone()
                whole[:, chosen] = image
                found.append((whole, *context))
            joined = tuple(torch.cat(parts) for parts in zip(*found, strict=True))
            return joined if kind == "mmdit" else joined[0]

        return run

    middle = list(denoiser.blocks)[1:-2]
    for block in middle:
        block.forward = narrowed(block.forward)
    try:
        predicted: Tensor = denoiser(x_t, time, given).mean
    finally:
        for block in middle:
            del block.forward  # the class's own again
    return predicted


def as_tuple(output: Any) -> tuple[Any, ...]:
    return output if isinstance(output, tuple) else (output,)


def of_fewer(mask: Tensor, kind: str, count: int) -> Tensor:
    """A mask [1, N] of all tokens for `count` image tokens, which are always attended, and the context."""
    context = mask[:, -L:] if kind == "dit" else mask[:, :L]
    image = torch.ones(1, count, dtype=torch.bool)
    return torch.cat([image, context] if kind == "dit" else [context, image], dim=1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
def test_middle_blocks_see_the_kept_tokens_alone(kind: str, masked: bool) -> None:
    denoiser = build(kind)
    x_t, time = randn(B, 3, 8, 6, seed=1), torch.tensor([3.0, 400.0, 900.0])
    kept = ROUTING.kept(draws((4, 9, 2)), 12)
    assert kept.shape == (B, 6) and not torch.equal(kept[0].sort().values, kept[1].sort().values)
    given = conditions(masked)
    found = denoiser(x_t, time, given, kept).mean
    torch.testing.assert_close(found, one_by_one(kind, denoiser, x_t, time, given, kept), rtol=1e-4, atol=1e-5)
    assert (found - denoiser(x_t, time, given).mean).abs().max() > 1e-3, "the route changes nothing"


@pytest.mark.parametrize("kind", CONFIGS)
def test_all_tokens_in_any_order_are_no_route(kind: str) -> None:
    denoiser = build(kind)
    x_t, time, given = randn(B, 3, 8, 8, seed=1), torch.tensor([3.0, 400.0, 900.0]), conditions(True)
    everything = randn(B, 16, seed=3).argsort(dim=1)
    torch.testing.assert_close(
        denoiser(x_t, time, given, everything).mean, denoiser(x_t, time, given).mean, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_network_that_samples_is_the_same(kind: str) -> None:
    """Weights, names and predictions; the one training pass is routed, over the same noise."""
    routed, plain = build(kind), build(kind, None)
    assert {name: each.shape for name, each in routed.state_dict().items()} == {
        name: each.shape for name, each in plain.state_dict().items()
    }
    plain.load_state_dict(routed.state_dict())
    x_t, time, given = randn(B, 3, 8, 8, seed=1), torch.tensor([3.0, 400.0, 900.0]), conditions(True)
    assert torch.equal(routed(x_t, time, given).mean, plain(x_t, time, given).mean)
    (one,), (other,) = routed.training_passes(draws((0, 1, 2))), plain.training_passes(draws((0, 1, 2)))
    assert one.noise == other.noise == "noise"
    assert torch.equal(other.forward(x_t, time, given).mean, plain(x_t, time, given).mean)
    loss = one.forward(x_t, time, given).mean.square().mean()
    loss.backward()
    idle = [name for name, each in routed.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
    last_of_the_context = [name for name in idle if kind == "mmdit" and name.startswith("blocks.4.context.qkv")]
    assert idle == last_of_the_context, idle


def test_a_pictures_tokens_do_not_depend_on_its_micro_batch() -> None:
    whole = ROUTING.kept(draws(tuple(range(16, 24))), 20)
    parts = [ROUTING.kept(draws(tuple(range(start, start + 2))), 20) for start in range(16, 24, 2)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, ROUTING.kept(draws(tuple(range(24, 32))), 20))
    assert all(len(set(row.tolist())) == 10 for row in whole)
    seen = torch.bincount(RoutingConfig(share=0.75).kept(draws(tuple(range(4000))), 8).flatten(), minlength=8) / 4000
    torch.testing.assert_close(seen, torch.full((8,), 0.25), rtol=0, atol=0.035)  # 5 standard deviations
    assert RoutingConfig(share=0.99).kept(draws((0,)), 9).shape == (1, 1)


def test_the_setting_is_checked_and_not_written_where_it_is_not_used() -> None:
    for config in CONFIGS.values():
        assert "routing" not in config().model_dump() and config.model_validate(config().model_dump()).routing is None
        written = config(routing=ROUTING).model_dump()
        assert written["routing"] == {"share": 0.5, "first": 1, "last": 2} and config.model_validate(written).routing == ROUTING
    for bad in ({"share": 0}, {"share": 1}, {"last": 0}, {"first": -1}):
        with pytest.raises(ValidationError):
            RoutingConfig(**bad)
    with pytest.raises(ConfigError, match="leaves none of 3 blocks"):
        build("dit", depth=3)
    for other in (MDTv2Config, UNetConfig):  # MDTv2 hides tokens in its own way, and a UNet has none
        assert "routing" not in other.model_fields


def test_an_alignment_needs_a_block_that_sees_all_tokens() -> None:
    denoiser = build("dit")
    with pytest.raises(ConfigError, match=r"block 3 of 5.*fix: objective.alignment.depth=0.1"):
        Alignment(AlignmentConfig(), denoiser, 3)
    for depth in (0.2, 0.8):
        Alignment(AlignmentConfig(depth=depth), denoiser, 3)
