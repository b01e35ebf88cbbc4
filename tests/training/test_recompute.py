"""Blocks that are computed again in the backward pass: the same bits, less memory, nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from open_ldm.core.errors import ConfigError
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.recipe import load_recipe
from open_ldm.training.recompute import recomputed_blocks
from open_ldm.training.settings import EveryBlock, Recompute
from open_ldm.training.trainer import DiffusionTrainer
from tests.helpers import DENOISERS
from tests.training.small_run import all_tensors, micro_batches, run_updates, same_bits, settings, small_trainer

EVERY_SECOND = EveryBlock(every=2)


def passes_of(trainer: DiffusionTrainer) -> list[int]:
    """Count what each block computes from here on, by its first layer with weights."""
    counts = [0] * len(trainer.state.model.denoiser.block_modules())

    def counting(number: int) -> Any:
        def count(module: nn.Module, given: Any) -> None:
            counts[number] += 1

        return count

    for number, block in enumerate(trainer.state.model.denoiser.block_modules()):
        leaf = next(part for part in block.modules() if not list(part.children()) and list(part.parameters()))
        leaf.register_forward_pre_hook(counting(number))
    return counts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
@pytest.mark.parametrize("name", ["dit", "mmdit", "pixart", "mdtv2", "unet"])
def test_losses_and_weights_keep_their_bits(name: str, dtype: torch.dtype) -> None:
    plain = small_trainer(denoiser=DENOISERS[name], dtype=dtype)
    wanted = run_updates(plain, 3, micro=4)
    for setting in ("blocks", EVERY_SECOND):
        trainer = small_trainer(settings(recompute=setting), DENOISERS[name], dtype=dtype)
        names = list(trainer.state.model.state_dict())
        assert run_updates(trainer, 3, micro=4) == wanted
        assert same_bits(all_tensors(trainer), all_tensors(plain))
        assert names == list(plain.state.model.state_dict())


@pytest.mark.parametrize(("setting", "wanted"), [("none", [1, 1]), ("blocks", [2, 2]), (EVERY_SECOND, [1, 2])])
def test_chosen_blocks_compute_twice_and_the_average_once(setting: Recompute, wanted: list[int]) -> None:
    trainer = small_trainer(settings(recompute=setting))
    counts = passes_of(trainer)
    run_updates(trainer, 1)
    assert counts == wanted
    (batch,) = micro_batches(trainer)
    noised = trainer.noising.draw(batch)
    averaged = trainer.state.ema.model
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        averaged.predict(noised.x_0.requires_grad_(), noised.t, noised.inputs)
    assert len(kept) > 20, "the averaged model keeps what it computes"


@pytest.mark.parametrize(("every", "wanted"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3]), (3, [2]), (5, [4])])
def test_the_last_of_every_so_many_blocks(every: int, wanted: Sequence[int]) -> None:
    blocks = [nn.Identity() for _ in range(5)]
    assert recomputed_blocks(blocks, EveryBlock(every=every)) == [blocks[index] for index in wanted]


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"every=6 chooses none of 5 blocks; needed: at most 5; fix: .*none"):
        recomputed_blocks([nn.Identity() for _ in range(5)], EveryBlock(every=6))


def test_it_is_no_part_of_a_runs_numbers_and_refused_where_nothing_reads_it() -> None:
    plain, again = load_recipe("demo"), load_recipe("demo", ["training.recompute={every: 2}"])
    assert plain.numerics == again.numerics
    assert "recompute" not in plain.model_dump(mode="json")["training"]
    assert load_recipe("demo", ["training.recompute.every=2"]) == again
    with pytest.raises(ConfigError, match=r"training\.recompute has no effect on an autoencoder"):
        load_autoencoder_recipe("photos-autoencoder", ["training.recompute=blocks"])
