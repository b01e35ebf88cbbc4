"""A training run small enough for a test: a DiT of 32 px width on noise pictures of 8 x 8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from open_ldm.autoencoders import LatentStats
from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.controls import Flip, OriginalSize
from open_ldm.core.distributed import World
from open_ldm.data.sample import Batch
from open_ldm.denoisers import DenoiserConfig
from open_ldm.encoded.batch import EncodedBatch, LiveEncoder
from open_ldm.model.noising import Noising
from open_ldm.model.objective import ObjectiveConfig
from open_ldm.process.time_density import LogitNormalTimes
from open_ldm.text import Vocabulary, WordsEncoder
from open_ldm.training.plan import BatchPlan, plan_batches
from open_ldm.training.settings import EmaConfig, OptimizerConfig, TrainingConfig
from open_ldm.training.trainer import DiffusionTrainer, Trainer
from open_ldm.training.update import Update
from tests.helpers import SMALL_DIT, SMALL_WORDS, WORDS, batch_at, small_model

CPU = torch.device("cpu")
STATS = LatentStats(mean=(0.1, 0.0, -0.1), std=(0.5, 0.6, 0.7))
CONDITIONING = ConditioningConfig(semantic=TextSemantic(encoder=SMALL_WORDS, route="both"), controls=(OriginalSize(), Flip()))
BATCH_SIZE = 8


def settings(**changes: Any) -> TrainingConfig:
    content: dict[str, Any] = {
        "seed": 5,
        "samples": 10 * BATCH_SIZE,
        "batch_size": BATCH_SIZE,
        "optimizer": OptimizerConfig(learning_rate=1e-3, warmup_samples=3 * BATCH_SIZE, decay="cosine"),
        "ema": EmaConfig(decay=0.9),
        "log_every_samples": 2 * BATCH_SIZE,
        "checkpoint_every_samples": 4 * BATCH_SIZE,
    }
    return TrainingConfig(**{**content, **changes})


def encoder() -> LiveEncoder:
    return LiveEncoder(IdentityAutoencoder(), CONDITIONING.controls, CPU, WordsEncoder(Vocabulary(WORDS), SMALL_WORDS.length))


def noising(seed: int = 5, conditioning: ConditioningConfig = CONDITIONING) -> Noising:
    return Noising(seed, BATCH_SIZE, STATS, conditioning, LogitNormalTimes(), None, CPU)


def small_trainer(
    config: TrainingConfig | None = None,
    denoiser: DenoiserConfig = SMALL_DIT,
    world: World | None = None,
    dtype: torch.dtype = torch.float32,
) -> DiffusionTrainer:
    model = small_model(denoiser, CONDITIONING).compute_in(dtype)
    return DiffusionTrainer(model, noising(), ObjectiveConfig(), config or settings(), world or World())


def batches_of(plan: BatchPlan, start: int = 0) -> Iterator[Batch]:
    return (batch_at(positions) for positions in plan.ranges(start))


def micro_batches(trainer: DiffusionTrainer, micro: int | None = None) -> list[EncodedBatch]:
    """The encoded micro-batches of the trainer's next update."""
    plan = plan_batches(trainer.config.batch_size, micro, trainer.world)
    following = batches_of(plan, trainer.state.counters.samples_seen)
    return [encoder().encode(batch) for batch in islice(following, plan.micro_batches)]


def run_updates(trainer: DiffusionTrainer, count: int, micro: int | None = None) -> list[Update]:
    return [trainer.update(micro_batches(trainer, micro)) for _ in range(count)]


def all_tensors(trainer: Trainer[Any, Any]) -> dict[str, Tensor]:
    return {f"{group}.{name}": tensor for group, part in trainer.state.tensors().items() for name, tensor in part.items()}


def copy_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def same_bits(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def positions_of(ranges: Iterable[Sequence[int]]) -> list[int]:
    return [position for part in ranges for position in part]
