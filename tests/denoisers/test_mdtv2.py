"""MDTv2 against a plain float64 reference, and what its masks and tables promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from open_ldm.conditioning import Conditions
from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import Draws
from open_ldm.denoisers import MDTv2Config, Slots
from open_ldm.denoisers.blocks.relative_bias import token_pairs
from open_ldm.denoisers.mdtv2 import MDTv2
from open_ldm.interop.dit import CLASS_TABLE
from open_ldm.interop.mdtv2 import original
from open_ldm.process.schedules import LinearSchedule, build_schedule
from tests.denoisers.mdtv2_reference import Reference
from tests.helpers import randn, randomise, relative

GEOMETRY: dict[str, Any] = {"size": "XS", "depth": 6, "width": 24, "heads": 3}
CLASSES, CONTEXT = 5, 10
BOUND = 1e-5
CPU = torch.device("cpu")


def build(grid: tuple[int, int], patch: int = 2, context: int | None = None, seed: int = 0, **settings: Any) -> MDTv2:
    """A network whose biases and tables all matter."""
    torch.manual_seed(seed)
    latent_size = (grid[0] * patch, grid[1] * patch)
    config = MDTv2Config(**{**GEOMETRY, **settings}, patch=patch)
    denoiser = randomise(MDTv2(config, Slots(4, context, learned_variance=True, latent_size=latent_size)), seed)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if name.endswith((".values", "mask_token")):
                parameter.add_(torch.randn_like(parameter))
    return denoiser


def reference(ours: MDTv2, grid: tuple[int, int], table: Tensor) -> Reference:
    key_map = original(ours.config, 4, grid)
    named = {f"denoiser.{name}": tensor.detach() for name, tensor in ours.state_dict().items()}
    state = key_map.write(named | {CLASS_TABLE: table})
    return Reference({name: tensor.double() for name, tensor in state.items()}, GEOMETRY["heads"], ours.patch, grid)


def output_and_gradient(output: Tensor, *inputs: Tensor) -> list[Tensor]:
    weights = randn(*output.shape, seed=9).to(output.dtype)
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), inputs)]


def same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert float(theirs[0].abs().max()) > 0.1
    for found, wanted in zip(ours, theirs, strict=True):
        assert relative(found.double(), wanted) <= BOUND


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("t", [0.001, 0.5, 1.0])
@pytest.mark.parametrize(("patch", "grid"), [(2, (3, 3)), (2, (2, 5)), (4, (4, 2))])
def test_equal_to_the_reference(patch: int, grid: tuple[int, int], t: float, masked: bool) -> None:
    ours, table = build(grid, patch), randn(CLASSES + 1, GEOMETRY["width"], seed=4)
    labels = torch.tensor([3, CLASSES])  # the last one is the null class
    x = randn(2, 4, grid[0] * patch, grid[1] * patch, seed=1).requires_grad_()
    time = build_schedule(LinearSchedule()).network_time(torch.full((2,), t))
    visible = randn(2, grid[0] * grid[1], seed=2).argsort(dim=1)[:, :5] if masked else None
    prediction = ours(x, time, Conditions(table[labels]), visible)
    assert prediction.variance_fraction is not None
    found = output_and_gradient(torch.cat([prediction.mean, prediction.variance_fraction], dim=1), x)
    exact = x.detach().double().requires_grad_()
    same(found, output_and_gradient(reference(ours, grid, table)(exact, time, labels, visible), exact))


@pytest.mark.parametrize("masked", [False, True])
def test_context_tokens_take_the_three_spare_rows(masked: bool) -> None:
    grid, table = (2, 3), randn(CLASSES + 1, GEOMETRY["width"], seed=4)
    ours, labels = build(grid, context=CONTEXT), torch.tensor([0, 2])
    assert ours.context_embedding is not None
    x, context = randn(2, 4, 4, 6, seed=1).requires_grad_(), randn(2, 4, CONTEXT, seed=3).requires_grad_()
    mask = torch.tensor([[True, True, False, True], [True, True, False, False]])
    visible = torch.tensor([[4, 1, 0], [5, 2, 3]]) if masked else None
    time = torch.tensor([10.0, 700.0])
    prediction = ours(x, time, Conditions(table[labels], context, mask), visible)
    assert prediction.variance_fraction is not None
    found = output_and_gradient(torch.cat([prediction.mean, prediction.variance_fraction], dim=1), x, context)
    exact, tokens = x.detach().double().requires_grad_(), context.detach().double().requires_grad_()
    embedded = tokens @ ours.context_embedding.weight.detach().double().T + ours.context_embedding.bias.detach().double()
    wanted = reference(ours, grid, table)(exact, time, labels, visible, embedded, mask)
    same(found, output_and_gradient(wanted, exact, tokens))


def test_without_context_the_spare_rows_are_never_read() -> None:
    denoiser, x, conditions = build((3, 3)), randn(2, 4, 6, 6), Conditions(randn(2, GEOMETRY["width"]))
    visible = torch.tensor([[4, 1, 0], [5, 2, 8]])
    before = [denoiser(x, torch.ones(2), conditions, which).mean for which in (None, visible)]
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if name.endswith("bias.table.values"):
                parameter[-3:] = float("nan")
    after = [denoiser(x, torch.ones(2), conditions, which).mean for which in (None, visible)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_the_row_of_a_pair_on_a_square_grid_is_the_published_one() -> None:
    side = 4
    rows = token_pairs((side, side), 0, CPU).rows[0]
    for query in range(side * side):
        for key in range(side * side):
            down, right = query // side - key // side, query % side - key % side
            assert rows[query, key] == (down + side - 1) * (2 * side - 1) + right + side - 1
    assert torch.equal(token_pairs((2, 3), 2, CPU).rows[0, 6:, 6:], torch.full((2, 2), 3 * 5 + 2))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mask_ratio": 0.8, "mask_spread": 0.2}, "leaves no tokens"),
        ({"mask_ratio": None, "mask_spread": 0.1}, "no effect"),
        ({"mask_ratio": 0}, "greater than 0"),
        ({"positions": {"kind": "grid"}}, "positions"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MDTv2Config.model_validate(settings)


@pytest.mark.parametrize("settings", [{"depth": 5}, {"depth": 2}, {"size": "S", "depth": 6}, {"depth": 6, "decode_layers": 3}])
def test_blocks_that_do_not_pair_up_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="even number of blocks, at least 2"):
        _ = MDTv2Config(**settings).half_depth


def draws(positions: tuple[int, ...], batch_size: int = 8) -> Draws:
    return Draws(3, positions, batch_size, CPU)


def masked_prediction(denoiser: MDTv2, which: Draws, x: Tensor, modulation: Tensor) -> Tensor:
    plain, masked = denoiser.training_passes(which)
    assert (plain.noise, masked.noise) == ("noise", "noise masked")
    return masked.forward(x, torch.ones(len(x)), Conditions(modulation)).mean


def test_a_pictures_mask_does_not_depend_on_its_micro_batch() -> None:
    denoiser, x, modulation = build((4, 4)), randn(8, 4, 8, 8), randn(8, GEOMETRY["width"], seed=1)
    whole = masked_prediction(denoiser, draws(tuple(range(16, 24))), x, modulation)
    for start, stop in ((0, 4), (4, 8), (6, 7)):
        part = draws(tuple(range(16 + start, 16 + stop)))
        found = masked_prediction(denoiser, part, x[start:stop], modulation[start:stop])
        torch.testing.assert_close(found, whole[start:stop], rtol=1e-5, atol=1e-5)
    others = masked_prediction(denoiser, draws(tuple(range(24, 32))), x, modulation)
    assert all(relative(others[i], whole[i]) > 1e-3 for i in range(8))


def test_the_second_pass_hides_30_to_50_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, drawn = build((8, 8)), []
    monkeypatch.setattr(denoiser, "forward", lambda x_t, time, conditions, visible: drawn.append(visible))
    for first in range(0, 800, 8):
        passes = denoiser.training_passes(draws(tuple(range(first, first + 8))))
        passes[1].forward(randn(8, 4, 16, 16), torch.ones(8), Conditions(torch.zeros(8, 24)))
    counts = [visible.shape[1] for visible in drawn]
    assert min(counts) in (32, 33) and max(counts) in (43, 44)  # int(64 (1 - r)), r in [0.3, 0.5)
    assert sum(counts) / len(counts) == pytest.approx(64 * 0.6, rel=0.03)
    assert all(len(set(row.tolist())) == len(row) for visible in drawn for row in visible)
    assert all(not torch.equal(visible[0], visible[1]) for visible in drawn)
    shown = torch.cat([visible.flatten() for visible in drawn]).bincount(minlength=64)
    assert int(shown.min()) > 0.8 * float(shown.float().mean())


def test_without_a_mask_ratio_there_is_one_pass_and_nothing_idle() -> None:
    denoiser = build((4, 4), mask_ratio=None)
    assert len(denoiser.training_passes(draws((0,)))) == 1
    assert not [name for name, _ in denoiser.named_parameters() if name.startswith("side")]
    with pytest.raises(ValueError, match="mask_ratio"):
        denoiser(randn(1, 4, 8, 8), torch.ones(1), Conditions(torch.zeros(1, 24)), torch.tensor([[0]]))


def test_hidden_tokens_do_not_reach_the_encoder() -> None:
    denoiser, modulation = build((3, 3)), randn(1, GEOMETRY["width"])
    visible = torch.tensor([[0, 4, 8]])
    x = randn(1, 4, 6, 6)
    seen: list[Tensor] = []
    denoiser.side.register_forward_hook(lambda module, args, output: seen.append(output))
    for change in (0.0, 5.0):
        x[:, :, 0, 2] += change  # in token 1, which is hidden
        denoiser(x, torch.ones(1), Conditions(modulation), visible)
    assert torch.equal(seen[0], seen[1])
