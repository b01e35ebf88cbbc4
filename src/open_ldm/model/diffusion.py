"""DiffusionModel = schedule + prediction kind + conditioning + denoiser."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from open_ldm.conditioning import Conditioning, ConditioningConfig, ConditionInputs
from open_ldm.controls import ViewShape
from open_ldm.core import seeds
from open_ldm.core.config import Config
from open_ldm.denoisers import DenoiserConfig, Prediction, Slots, build_denoiser
from open_ldm.process.prediction import Denoised, PredictionKind, to_x_0
from open_ldm.process.resolution import ResolutionConfig, rescaled
from open_ldm.process.schedules import RectifiedFlowSchedule, Schedule, ScheduleConfig, build_schedule
from open_ldm.text.words import Vocabulary


class ProcessConfig(Config):
    """How latents are noised and what the network predicts. `learned_variance`: it also predicts the reverse variance.

    `resolution`: the schedule was made for pictures of another size.
    """

    schedule: ScheduleConfig = RectifiedFlowSchedule()
    resolution: ResolutionConfig | None = None
    prediction: PredictionKind = "velocity"
    learned_variance: bool = False

    def build_schedule(self) -> Schedule:
        """The schedule, at the size of the pictures it is used for."""
        return rescaled(build_schedule(self.schedule), self.resolution)


@dataclass(frozen=True)
class ModelFacts:
    """What a model must know of its data to be built and used; saved with it.

    `channels`: of the latents. `class_names`: in label order. `words`: vocabulary of a word-conditional model.
    `latent_size`: (height, width) of the latents it is trained at. `text_encoder`: fingerprint of the frozen text encoder
    whose tokens it was trained with, if there is one. `autoencoder`: fingerprint of the encoder of its latents; empty where it
    was not recorded.
    """

    channels: int
    view: ViewShape
    class_names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    latent_size: tuple[int, int] = (32, 32)
    text_encoder: str = ""
    autoencoder: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ModelFacts:
        """The inverse of `to_json`."""
        return cls(
            channels=content["channels"],
            view=ViewShape(**content["view"]),
            class_names=tuple(content["class_names"]),
            words=tuple(content["words"]),
            latent_size=(content["latent_size"][0], content["latent_size"][1]),
            text_encoder=content.get("text_encoder", ""),
            autoencoder=content.get("autoencoder", ""),
        )


class DiffusionModel(nn.Module):
    """Predicts x_0 from x_t under raw conditions. Holds all parameters that training changes."""

    def __init__(
        self, process: ProcessConfig, conditioning: ConditioningConfig, denoiser: DenoiserConfig, facts: ModelFacts
    ) -> None:
        super().__init__()
        self.facts = facts
        self.kind: PredictionKind = process.prediction
        with torch.device("cpu"):  # its tables are numbers, wanted even where a model is only counted (meta device)
            self.schedule = process.build_schedule()
        self.conditioning = Conditioning(
            conditioning.semantic,
            conditioning.controls,
            denoiser.modulation_dim,
            classes=len(facts.class_names),
            vocabulary=len(Vocabulary(facts.words)),
        )
        slots = Slots(facts.channels, self.conditioning.context_dim, process.learned_variance, facts.latent_size)
        self.denoiser = build_denoiser(denoiser, slots)

    def compute_in(self, dtype: torch.dtype) -> DiffusionModel:
        """Set the dtype of the denoiser's matrix products; parameters stay float32."""
        self.denoiser.compute_dtype = dtype
        return self

    def predict(self, x_t: Tensor, t: Tensor, inputs: ConditionInputs) -> Prediction:
        """x_t [B, C, H, W], t [B] in [0, 1] -> the network's own prediction."""
        prediction: Prediction = self.denoiser(x_t, self.schedule.network_time(t), self.conditioning(inputs, t))
        return prediction

    def denoise(self, x_t: Tensor, t: Tensor, inputs: ConditionInputs) -> Denoised:
        """x_t [B, C, H, W], t [B] -> the estimate of x_0, whatever the network predicts."""
        return self.as_denoised(self.predict(x_t, t, inputs), x_t, t)

    def as_denoised(self, prediction: Prediction, x_t: Tensor, t: Tensor) -> Denoised:
        """A prediction made at (x_t, t), as an estimate of x_0."""
        x_0 = to_x_0(self.kind, prediction.mean, x_t, self.schedule.level(t))
        return Denoised(x_0, prediction.variance_fraction)


def build_model(
    process: ProcessConfig, conditioning: ConditioningConfig, denoiser: DenoiserConfig, facts: ModelFacts, seed: int
) -> DiffusionModel:
    """A model whose initial weights are a function of `seed` alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.key(seed, "initial weights"))
        return DiffusionModel(process, conditioning, denoiser, facts)
