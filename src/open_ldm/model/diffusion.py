"""The diffusion model: noise schedule, conditioning and denoiser in one module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from open_ldm.conditioning import Conditioning, ConditionInputs
from open_ldm.controls.data import fit_controls
from open_ldm.core import seeds
from open_ldm.denoisers import Prediction, Slots, build_denoiser
from open_ldm.model.alignment import Alignment
from open_ldm.model.spec import ModelSpec
from open_ldm.process.prediction import Denoised, PredictionKind, to_x_0
from open_ldm.text.words import Vocabulary


class DiffusionModel(nn.Module):
    """Predicts x_0 from x_t under raw conditions. Holds all parameters that training changes."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.kind: PredictionKind = spec.process.prediction
        with torch.device("cpu"):  # its tables are numbers, wanted even where a model is only counted (meta device)
            self.schedule = spec.process.build_schedule()
        self.conditioning = Conditioning(
            spec.conditioning.semantic,
            fit_controls(spec.conditioning.controls, spec.facts.view),
            spec.denoiser.modulation_dim,
            classes=len(spec.facts.class_names),
            vocabulary=len(Vocabulary(spec.facts.words)),
            schedule=self.schedule,
        )
        facts, learned_variance = spec.facts, spec.process.learned_variance
        slots = Slots(facts.channels, self.conditioning.context_dim, learned_variance, facts.latent_size)
        self.denoiser = build_denoiser(spec.denoiser, slots)
        # Behind all else, whose initial weights are the same with it and without.
        self.alignment = None if spec.alignment is None else Alignment(spec.alignment, self.denoiser, facts.channels)

    def compute_in(self, dtype: torch.dtype) -> DiffusionModel:
        """Set the dtype of the denoiser's matrix products; parameters stay float32. Returns the model itself."""
        self.denoiser.compute_dtype = dtype
        return self

    def predict(self, x_t: Tensor, t: Tensor, inputs: ConditionInputs) -> Prediction:
        """Run the network.

        Args:
            x_t: Noised latents [B, C, H, W].
            t: Times [B] in [0, 1], 1 = noise.
            inputs: Conditions of each picture.

        Returns:
            What the network predicts of its kind (eps, x_0, v or velocity), [B, C, H, W] float32.
        """
        prediction: Prediction = self.denoiser(x_t, self.schedule.network_time(t), self.conditioning(inputs, t))
        return prediction

    def denoise(self, x_t: Tensor, t: Tensor, inputs: ConditionInputs) -> Denoised:
        """Estimate x_0 [B, C, H, W], whatever the network predicts; arguments as for `predict`."""
        return self.as_denoised(self.predict(x_t, t, inputs), x_t, t)

    def as_denoised(self, prediction: Prediction, x_t: Tensor, t: Tensor) -> Denoised:
        """Convert a prediction made at (x_t, t) to an estimate of x_0 (docs/method.md, 4)."""
        x_0 = to_x_0(self.kind, prediction.mean, x_t, self.schedule.level(t))
        return Denoised(x_0, prediction.variance_fraction)


def build_model(spec: ModelSpec, seed: int) -> DiffusionModel:
    """Build a model.

    Args:
        spec: Its settings.
        seed: Decides the initial weights alone; torch's global generator is left as it was.

    Returns:
        The model in float32 on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.key(seed, "initial weights"))
        return DiffusionModel(spec)
