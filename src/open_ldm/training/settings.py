"""Settings of a training run. The clock is samples seen, never iterations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from open_ldm.core.config import Config
from open_ldm.core.device import DeviceName, DtypeName
from open_ldm.core.distributed import TIMEOUT_SECONDS
from open_ldm.core.later_settings import without_defaults
from open_ldm.training.power_ema import power_of

_Share = Annotated[float, Field(ge=0, lt=1)]
Length = Annotated[float, Field(gt=0, le=0.28)]
"""Of an average, as a share of the training."""


class MuonConfig(Config):
    """Muon for the matrices of the blocks, beside AdamW for all else (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982).

    Attributes:
        rate: Its learning rate over AdamW's: at 1 an update of an m x n matrix is 0.2 sqrt(max(m, n)) times an orthogonal one,
            and its root mean square is that of AdamW's (Liu et al. 2025, equation 4).
        momentum: Of the running mean of gradients, with Nesterov's step.
    """

    rate: float = Field(default=1.0, gt=0)
    momentum: _Share = 0.95


class OptimizerConfig(Config):
    """AdamW, and Muon for matrices on request.

    Attributes:
        learning_rate: After warm-up.
        betas: Of the running means of gradient and squared gradient.
        eps: Added to the root of the second.
        weight_decay: Decoupled, times the learning rate.
        warmup_samples: Over these the learning rate rises linearly from 0.
        decay: Its course from there to the end.
        clip_norm: Gradients of a larger 2-norm are scaled down to it; null clips none.
        muon: How the matrices of the blocks learn; null leaves them to AdamW. Rate, its course and weight decay hold for both.
    """

    learning_rate: float = Field(default=1e-4, gt=0)
    betas: tuple[_Share, _Share] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_samples: int = Field(default=0, ge=0)
    decay: Literal["constant", "linear", "cosine"] = "constant"
    clip_norm: float | None = Field(default=1.0, gt=0)
    muon: MuonConfig | None = None

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("muon",))


class EmaConfig(Config):
    """The averaged weights that sampling uses, by a decay.

    Attributes:
        decay: Per update.
        warmup: Use min(decay, (1 + n) / (10 + n)) at update n.
    """

    kind: Literal["exponential"] = "exponential"
    decay: float = Field(default=0.9999, ge=0, lt=1)
    warmup: bool = True

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("kind",))


class PowerEmaConfig(Config):
    """Two averages whose memory grows with the training, of which `ldm ema` makes one of any length (training/power_ema.py).

    Attributes:
        lengths: Of the two, as shares of the training. Sampling and previews of the run itself use the first.
        snapshot_every_samples: How often both are kept for that; null takes `training.checkpoint_every_samples`.
        keep_snapshots: At most so many are kept: of more, every second one goes, so that the others stay evenly spread.
    """

    kind: Literal["power"] = "power"
    lengths: tuple[Length, Length] = (0.05, 0.1)
    snapshot_every_samples: int | None = Field(default=None, ge=1)
    keep_snapshots: int = Field(default=32, ge=4)

    @model_validator(mode="after")
    def _differ(self) -> PowerEmaConfig:
        if self.groups[0] == self.groups[1]:
            raise ValueError(f"lengths {list(self.lengths)} are the same to six digits; needed: two that differ")
        return self

    @property
    def powers(self) -> tuple[float, float]:
        """The power of each average."""
        return power_of(self.lengths[0]), power_of(self.lengths[1])

    @property
    def groups(self) -> tuple[str, str]:
        """What each average is called among the tensors of a snapshot."""
        return f"ema_{self.lengths[0]:g}", f"ema_{self.lengths[1]:g}"


AnyEmaConfig = Annotated[
    Annotated[EmaConfig, Tag("exponential")] | Annotated[PowerEmaConfig, Tag("power")],
    Discriminator(lambda given: given.get("kind", "exponential") if isinstance(given, dict) else getattr(given, "kind", None)),
]
"""A recipe that names no kind is of the time when there was one."""


class ParallelConfig(Config):
    """How several processes work together.

    Attributes:
        kind: `ddp` copies the whole model to every process, and `fsdp` cuts it into shards, of which each process holds one.
            `auto` takes `ddp` where the training fits in half of a card, else `fsdp`; `single` refuses more than one process.
        replicate: With `fsdp`, how many whole models there are, each in shards on an equal part of the processes.
        timeout_seconds: The longest wait for another process, which is then named.
    """

    kind: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    replicate: int = Field(default=1, ge=1)
    timeout_seconds: int = Field(default=TIMEOUT_SECONDS, ge=1)

    @model_validator(mode="after")
    def _every_setting_is_read(self) -> ParallelConfig:
        if self.replicate > 1 and self.kind != "fsdp":
            raise ValueError(f"replicate {self.replicate} has no effect with kind {self.kind}; needed: kind fsdp")
        return self

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("replicate",))


class Parallel(Config):
    """Base of recipes that several processes may share; a recipe at the default is written as before there was one."""

    parallel: ParallelConfig = ParallelConfig()

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("parallel",))


class EveryBlock(Config):
    """The last of every so many blocks."""

    every: int = Field(ge=1)


Recompute = Literal["none", "blocks"] | EveryBlock
"""Which blocks compute again in the backward pass what they would keep for it otherwise."""


Compile = Annotated[
    Literal["off", "on", "auto"],
    BeforeValidator(lambda given: ("off", "on")[given] if isinstance(given, bool) else given),  # on and off, as YAML reads them
]


class TrainingConfig(Config):
    """Settings of a training run.

    Attributes:
        seed: Of all random numbers.
        samples: Length of the training, in pictures.
        batch_size: Pictures per update over all processes.
        micro_batch_size: Pictures per forward pass and process; null for a process's whole share, auto for the largest part of
            it that fits in memory when the run starts.
        optimizer: AdamW and its learning rate.
        ema: The averaged weights.
        device: Where the model is trained.
        dtype: Of matrix products.
        log_every_samples: How often losses are reported.
        preview_every_samples: How often pictures are sampled; 0 is never.
        checkpoint_every_samples: How often the run is saved, besides at the end.
        deterministic: Only kernels that give the same bits every time: CUDA needs it for a bit-equal resume, CPUs do not.
        keep_checkpoints: How many of the newest good ones stay.
        recompute: Which blocks of the network are computed again in the backward pass, which saves memory and takes time:
            `none`, `blocks` (all), or {every: N}, the last of every N. The numbers stay the same.
        compile: Whether torch compiles the blocks of the network: `auto` does on CUDA cards from compute capability 7.0 on, for
            networks of 20 million parameters or more. What a new run settled on stays with it.
    """

    seed: int = 0
    samples: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    micro_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: AnyEmaConfig = EmaConfig()
    device: DeviceName = "auto"
    dtype: DtypeName = "auto"
    log_every_samples: int = Field(default=1024, ge=1)
    preview_every_samples: int = Field(default=0, ge=0)
    checkpoint_every_samples: int = Field(ge=1)
    deterministic: bool = False
    keep_checkpoints: int = Field(default=2, ge=2)
    recompute: Recompute = "none"
    compile: Compile = "auto"

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("recompute", "compile"))

    @property
    def averages(self) -> int:
        """How many averages of the weights there are."""
        return 2 if isinstance(self.ema, PowerEmaConfig) else 1

    @property
    def snapshot_every_samples(self) -> int:
        """How often the averages are kept for `ldm ema`; 0 is never."""
        if not isinstance(self.ema, PowerEmaConfig):
            return 0
        return self.ema.snapshot_every_samples or self.checkpoint_every_samples

    @model_validator(mode="after")
    def _fits(self) -> TrainingConfig:
        if self.samples < self.batch_size:
            raise ValueError(f"samples {self.samples} is less than one batch of {self.batch_size}")
        return self
