from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.controls import Control, ViewShape
from open_ldm.controls.gate import CosinePowerGate, GateConfig
from open_ldm.core.distributed import World
from open_ldm.core.errors import CheckpointError
from open_ldm.data.sample import TransformRecord
from open_ldm.encoded.batch import LiveEncoder
from open_ldm.model.objective import ObjectiveConfig
from open_ldm.training.settings import EmaConfig, OptimizerConfig
from open_ldm.training.trainer import DiffusionTrainer
from tests.helpers import DENOISERS, KNOWN, SMALL_MMDIT, batch_at, small_model
from tests.training.small_run import (
    CPU,
    IdentityAutoencoder,
    all_tensors,
    copy_of,
    micro_batches,
    noising,
    run_updates,
    same_bits,
    settings,
    small_trainer,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", DENOISERS)
def test_resumed_training_is_bit_equal(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    through = small_trainer(denoiser=DENOISERS[name], dtype=dtype)
    wanted = run_updates(through, 6)

    interrupted, store = small_trainer(denoiser=DENOISERS[name], dtype=dtype), CheckpointFolder(tmp_path)
    before = run_updates(interrupted, 3)
    seen = interrupted.state.counters.samples_seen
    store.save(seen, interrupted.state.tensors(), {"recipe": {}, **KNOWN, "counters": interrupted.state.counters_to_json()})
    run_updates(interrupted, 1)  # what came after the save is lost

    resumed = small_trainer(denoiser=DENOISERS[name], dtype=dtype)
    checkpoint, _ = store.newest()
    assert checkpoint is not None
    resumed.state.restore(checkpoint.files, checkpoint.content["counters"])
    assert resumed.state.counters.samples_seen == seen
    assert before + run_updates(resumed, 3) == wanted
    assert same_bits(all_tensors(resumed), all_tensors(through))
    assert resumed.state.counters_to_json() == through.state.counters_to_json()


def test_training_changes_every_parameter_and_the_average_follows() -> None:
    trainer = small_trainer(settings(ema=EmaConfig(decay=0.5, warmup=False)))
    start = copy_of(dict(trainer.state.model.named_parameters()))
    (update,) = run_updates(trainer, 1)
    assert update.applied
    assert update.loss > 0
    averaged = dict(trainer.state.ema.model.named_parameters())
    for name, parameter in trainer.state.model.named_parameters():
        assert not torch.equal(parameter, start[name]), name
        torch.testing.assert_close(averaged[name], (start[name] + parameter) / 2, rtol=1e-5, atol=1e-7)


def test_micro_batches_give_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for micro in (8, 4, 1):
        trainer = small_trainer()
        monkeypatch.setattr(trainer.state.optimizer, "zero_grad", lambda: None)
        monkeypatch.setattr(trainer, "_apply", lambda norm, rate: None)
        (update,) = run_updates(trainer, 1, micro)
        gradient = torch.cat([p.grad.flatten() for p in trainer.state.model.parameters() if p.grad is not None])
        assert gradient.norm().item() == pytest.approx(update.grad_norm, rel=1e-5)
        found.append((update.loss, gradient))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        assert float((gradient - found[0][1]).norm() / found[0][1].norm()) < 1e-6


def test_the_loss_is_the_mean_over_pictures() -> None:
    trainer = small_trainer()
    (batch,) = micro_batches(trainer)
    each = trainer.objective(trainer.noising.draw(batch))
    assert trainer.update([batch]).loss == pytest.approx(each.mean().item(), rel=1e-6)


def test_clipping_bounds_the_step() -> None:
    steps = []
    for clip in (None, 1e-3):
        choices = OptimizerConfig(learning_rate=1e-3, clip_norm=clip, eps=1.0)
        trainer = small_trainer(settings(optimizer=choices))
        start = copy_of(dict(trainer.state.model.named_parameters()))
        (update,) = run_updates(trainer, 1)
        moved = [parameter - start[name] for name, parameter in trainer.state.model.named_parameters()]
        steps.append((update.grad_norm, torch.nn.utils.get_total_norm(moved)))
    assert steps[0][0] == steps[1][0] > 1e-3  # the norm is told as it was before clipping
    # With eps = 1 the first step of Adam is about learning_rate * gradient.
    assert float(steps[1][1]) == pytest.approx(1e-3 * 1e-3, rel=0.01)
    assert float(steps[0][1]) > 10 * float(steps[1][1])


def test_the_learning_rate_of_an_update_is_that_of_its_end() -> None:
    trainer = small_trainer()
    rates = [update.learning_rate for update in run_updates(trainer, 4)]
    assert rates[:3] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])
    assert rates[3] < 1e-3


def test_a_non_finite_update_changes_nothing_but_the_count() -> None:
    trainer = small_trainer()
    run_updates(trainer, 1)
    before = copy_of(all_tensors(trainer))
    (batch,) = micro_batches(trainer)
    batch.posterior.mean[3] = float("nan")
    update = trainer.update([batch])
    assert not update.applied
    assert same_bits(all_tensors(trainer), before)
    assert trainer.state.counters_to_json() == {
        "samples_seen": 16,
        "updates": 1,
        "skipped": 1,
        "skipped_in_row": 1,
        "rollbacks": 0,
    }
    (after,) = run_updates(trainer, 1)
    assert after.applied
    assert trainer.state.counters.skipped_in_row == 0
    assert trainer.state.counters.skipped == 1


def test_the_objective_is_the_root_of_the_model_and_adds_no_tensors() -> None:
    trainer = small_trainer()
    of_root = dict(trainer.objective.named_parameters())
    of_model = dict(trainer.state.model.named_parameters())
    assert of_root.keys() == {f"model.{name}" for name in of_model}
    assert all(of_root[f"model.{name}"] is parameter for name, parameter in of_model.items())
    assert trainer.state.tensors()["model"].keys() == trainer.state.model.state_dict().keys()


def test_every_update_goes_through_the_objectives_forward() -> None:
    trainer = small_trainer()
    seen: list[int] = []
    trainer.objective.register_forward_hook(lambda module, given, losses: seen.append(len(losses)))
    run_updates(trainer, 1, micro=4)
    assert seen == [4, 4]


def test_a_checkpoint_of_another_model_is_refused() -> None:
    trainer, other = small_trainer(), small_trainer(denoiser=SMALL_MMDIT)
    run_updates(other, 1)
    with pytest.raises(CheckpointError, match="does not fit the recipe's model") as caught:
        trainer.state.restore(other.state.tensors(), other.state.counters_to_json())
    assert "\n" not in str(caught.value)
    tensors = small_trainer().state.tensors()
    tensors["optimizer"] = {"exp_avg.other": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="optimiser"):
        trainer.state.restore(tensors, other.state.counters_to_json())


class Weekday(Control):
    """A control that no union lists."""

    kind: str = "weekday"
    gate: GateConfig = CosinePowerGate(alpha=2)
    numbers: ClassVar[int] = 3
    option: ClassVar[str] = "weekday"
    form: ClassVar[str] = "0..6"

    def of(self, record: TransformRecord) -> tuple[float, ...]:
        return (float(record.original_height_px % 7), 1.0, 2.0)

    def default(self, view: ViewShape) -> tuple[float, ...]:
        return (0.0, 0.0, 0.0)

    def read(self, text: str, view: ViewShape) -> tuple[float, ...]:
        raise self.misread(text)


@pytest.mark.parametrize("name", DENOISERS)
def test_a_control_of_ones_own_trains_without_touching_anything_else(name: str) -> None:
    config = ConditioningConfig(semantic=ClassSemantic()).model_copy(update={"controls": (Weekday(),)})
    trainer = DiffusionTrainer(
        small_model(DENOISERS[name], config), noising(conditioning=config), ObjectiveConfig(), settings(), World()
    )
    own: Any = trainer.state.model.conditioning.controls["weekday"]
    before = copy_of(dict(own.named_parameters()))
    assert before.keys() == {"hidden.weight", "hidden.bias", "out.weight", "out.bias"}
    batch = LiveEncoder(IdentityAutoencoder(), config.controls, CPU).encode(batch_at(range(8)))
    assert batch.controls["weekday"].shape == (8, 3)
    assert trainer.update([batch]).applied
    assert all(not torch.equal(parameter, before[name]) for name, parameter in own.named_parameters())
