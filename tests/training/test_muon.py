"""Muon beside AdamW, against torch's own optimisers on matrices that lie apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.core.distributed import World
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.training.muon import MatrixOptimizer, matrices_of, orthogonal_factors
from open_ldm.training.optimizer import Optimizer
from open_ldm.training.parallel import Sharing
from open_ldm.training.settings import MuonConfig, OptimizerConfig
from tests.helpers import DENOISERS, KNOWN, randn, small_model
from tests.training.small_run import all_tensors, run_updates, same_bits, settings, small_trainer

RATE = 1e-2


class Block(nn.Module):
    """Three matrices above each other, one wide one, a bias and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = Linear(8, 24, parts=3)
        self.out = Linear(8, 4, bias=False)
        self.scale = nn.Parameter(torch.ones(8))


def model_and_optimizer(config: OptimizerConfig) -> tuple[nn.ModuleDict, Optimizer]:
    torch.manual_seed(1)
    model = nn.ModuleDict({"embedding": Linear(5, 8), "block": Block()})
    return model, Optimizer(model, config, [model["block"]])


def give_gradients(model: nn.Module, seed: int) -> None:
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = randn(*parameter.shape, seed=100 * seed + number)


def test_it_is_torchs_own_on_matrices_apart_and_adamw_on_all_else() -> None:
    config = OptimizerConfig(weight_decay=0.1, muon=MuonConfig(rate=0.5, momentum=0.8))
    model, optimizer = model_and_optimizer(config)
    twin, _ = model_and_optimizer(OptimizerConfig())
    block = twin["block"]
    apart = [nn.Parameter(block.qkv.weight.detach()[8 * i : 8 * (i + 1)].clone()) for i in range(3)]
    apart.append(nn.Parameter(block.out.weight.detach().clone()))
    muon = torch.optim.Muon(apart, lr=0.5 * RATE, weight_decay=0.1, momentum=0.8, adjust_lr_fn="match_rms_adamw")
    rest = [parameter for name, parameter in twin.named_parameters() if name not in ("block.qkv.weight", "block.out.weight")]
    adamw = torch.optim.AdamW(rest, lr=RATE, weight_decay=0.1, fused=True)
    for seed in range(3):
        give_gradients(model, seed)
        give_gradients(twin, seed)
        for part, gradient in zip(apart, (*block.qkv.weight.grad.chunk(3), block.out.weight.grad), strict=True):
            part.grad = gradient.clone()
        optimizer.step(RATE)
        muon.step()
        adamw.step()
    # torch's own rounds to bf16 on every processor, so each of the three steps may differ by a hundredth of itself.
    close = {"rtol": 0, "atol": 3 * 0.01 * 0.5 * RATE * 0.2 * 8**0.5}
    torch.testing.assert_close(model["block"].qkv.weight.detach(), torch.cat(apart[:3]).detach(), **close)
    torch.testing.assert_close(model["block"].out.weight, apart[3], **close)
    for name, parameter in twin.named_parameters():
        if any(parameter is one for one in rest):
            assert torch.equal(dict(model.named_parameters())[name], parameter), name


@pytest.mark.parametrize("shape", [(3, 5, 9), (2, 12, 4), (1, 6, 6)], ids=str)
def test_the_factor_is_the_polynomial_of_the_singular_values(shape: tuple[int, int, int]) -> None:
    """Against the singular value decomposition in float64, whose values go through the polynomial five times one by one."""
    matrices = randn(*shape, seed=5).double() * torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64)[: shape[0], None, None]
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    s = s / s.square().sum(1, keepdim=True).sqrt()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonal_factors(matrices), u @ torch.diag_embed(s) @ v, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(orthogonal_factors(matrices.float()).double(), u @ torch.diag_embed(s) @ v, rtol=0, atol=1e-4)
    assert (orthogonal_factors(torch.zeros(shape)) == 0).all()


def test_bf16_only_where_the_chip_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("open_ldm.training.muon.orthogonal_factors", lambda x: seen.append(x.dtype) or x)
    for multiplies in (True, False):
        monkeypatch.setattr("open_ldm.training.muon.multiplies_bf16", lambda device, there=multiplies: there)
        model, optimizer = model_and_optimizer(OptimizerConfig(muon=MuonConfig()))
        give_gradients(model, 1)
        optimizer.step(RATE)
    assert seen == [torch.bfloat16] * 4 + [torch.float32] * 4


def test_matrices_that_are_taken_together_move_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the five matrices of one shape, in two weights, two are taken at a time and one is left."""
    torch.manual_seed(2)
    start = [torch.randn(24, 8), torch.randn(16, 8)]
    gradients = [randn(*weight.shape, seed=number) for number, weight in enumerate(start)]
    moved, calls = [], []
    factors_of = orthogonal_factors
    monkeypatch.setattr("open_ldm.training.muon.orthogonal_factors", lambda x: calls.append(len(x)) or factors_of(x))
    for at_once in (1, 2):
        monkeypatch.setattr("open_ldm.training.muon.together", lambda matrix, most=at_once: most)
        weights = [nn.Parameter(weight.clone()) for weight in start]
        optimizer = MatrixOptimizer(dict(zip(weights, (3, 2), strict=True)), MuonConfig(), weight_decay=0.1)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        optimizer.step(RATE)
        moved.append([weight.detach() for weight in weights])
    assert calls == [1] * 5 + [2, 2, 1]
    torch.testing.assert_close(moved[0], moved[1])


def test_a_step_is_orthogonal_and_as_large_as_one_of_adamw() -> None:
    model, optimizer = model_and_optimizer(OptimizerConfig(muon=MuonConfig()))
    weight = model["block"].qkv.weight
    before = weight.detach().clone()
    give_gradients(model, 3)
    weight.grad[8:] /= 20  # keys and values get little, and their own steps are as large as those of the queries
    optimizer.step(RATE)
    for change in (before - weight.detach()).chunk(3):
        singular = torch.linalg.svdvals(change) / (RATE * 0.2 * 8**0.5)
        assert singular.min() > 0.5 and singular.max() < 1.3
        assert change.square().mean().sqrt().item() == pytest.approx(0.2 * RATE, rel=0.2)


def test_its_state_is_named_tensors_and_goes_on_bit_equal() -> None:
    config = OptimizerConfig(muon=MuonConfig())
    model, optimizer = model_and_optimizer(config)
    assert optimizer.tensors() == {}
    give_gradients(model, 1)
    optimizer.step(RATE)
    saved = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    assert {"momentum.block.qkv.weight", "momentum.block.out.weight", "exp_avg.block.qkv.bias"} < saved.keys()
    assert "exp_avg.block.qkv.weight" not in saved
    twin, other = model_and_optimizer(config)
    twin.load_state_dict(model.state_dict())
    other.restore(saved)
    for seed in (2, 3):
        for each, own in ((model, optimizer), (twin, other)):
            give_gradients(each, seed)
            own.step(RATE)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    _, plain = model_and_optimizer(OptimizerConfig())
    with pytest.raises(CheckpointError, match="optimiser's state"):
        plain.restore(saved)


def test_a_matrix_without_a_gradient_stays() -> None:
    model, optimizer = model_and_optimizer(OptimizerConfig(weight_decay=0.1, muon=MuonConfig()))
    give_gradients(model, 1)
    model["block"].out.weight.grad = None
    before = model["block"].out.weight.detach().clone()
    optimizer.step(RATE)
    assert torch.equal(model["block"].out.weight, before)


@pytest.mark.parametrize("name", DENOISERS)
def test_training_with_it_resumes_bit_equal(name: str, tmp_path: Path) -> None:
    config = settings(optimizer=OptimizerConfig(learning_rate=1e-3, muon=MuonConfig()))
    through = small_trainer(config, denoiser=DENOISERS[name])
    before = {key: tensor.clone() for key, tensor in through.state.tensors()["model"].items()}
    wanted = run_updates(through, 4)
    after = through.state.tensors()["model"]
    parts = matrices_of(through.blocks)
    assert parts and set(parts.values()) > {1}
    taken = {key for key, parameter in through.state.model.named_parameters() if parameter in parts}
    assert all(not torch.equal(before[key], after[key]) for key in taken)

    interrupted, store = small_trainer(config, denoiser=DENOISERS[name]), CheckpointFolder(tmp_path)
    assert run_updates(interrupted, 2) == wanted[:2]
    seen = interrupted.state.counters.samples_seen
    store.save(seen, interrupted.state.tensors(), {"recipe": {}, **KNOWN, "counters": interrupted.state.counters_to_json()})
    resumed = small_trainer(config, denoiser=DENOISERS[name])
    checkpoint, _ = store.newest()
    assert checkpoint is not None
    resumed.state.restore(checkpoint.files, checkpoint.content["counters"])
    assert run_updates(resumed, 2) == wanted[2:]
    assert same_bits(all_tensors(resumed), all_tensors(through))


def test_weights_of_several_matrices_say_so() -> None:
    """A weight with more rows than columns is one matrix only in an MLP, and where the UNet widens what it skips."""
    for name, config in DENOISERS.items():
        blocks = small_model(denoiser=config).denoiser.block_modules()
        odd: list[tuple[str, Tensor]] = [
            (key, layer.weight)
            for block in blocks
            for key, layer in block.named_modules()
            if isinstance(layer, Linear) and layer.parts == 1 and layer.out_features > layer.in_features
        ]
        assert all(key.endswith(("mlp.fc1", "residual.skip")) for key, _ in odd), (name, [key for key, _ in odd])


def test_what_has_no_matrices_or_holds_them_in_shards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="changes nothing"):
        Optimizer(nn.Linear(2, 2), OptimizerConfig(muon=MuonConfig()))
    monkeypatch.setattr("open_ldm.training.trainer.choose_sharing", lambda *given: Sharing("fsdp"))
    monkeypatch.setattr("open_ldm.training.trainer.shared", lambda objective, *given: objective)
    with pytest.raises(ConfigError, match="in shards"):
        small_trainer(settings(optimizer=OptimizerConfig(muon=MuonConfig())), world=World(0, 1))
