"""ModelSpec: everything that decides a diffusion model's computation, without a single weight."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic
from open_ldm.controls import ViewShape
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers import DenoiserConfig
from open_ldm.model.alignment import AlignmentConfig
from open_ldm.process.prediction import PredictionKind
from open_ldm.process.resolution import ResolutionConfig, rescaled
from open_ldm.process.schedules import RectifiedFlowSchedule, Schedule, ScheduleConfig, build_schedule


class ProcessConfig(Config):
    """How latents are noised and what the network predicts.

    Attributes:
        schedule: Noise level at each time.
        resolution: Set where the schedule was made for pictures of another size; null where it is used as it stands.
        prediction: What the network predicts.
        learned_variance: It also predicts the variance of the reverse step.
    """

    schedule: ScheduleConfig = RectifiedFlowSchedule()
    resolution: ResolutionConfig | None = None
    prediction: PredictionKind = "velocity"
    learned_variance: bool = False

    def build_schedule(self) -> Schedule:
        """Build the schedule, at the size of the pictures it is used for."""
        return rescaled(build_schedule(self.schedule), self.resolution)


@dataclass(frozen=True)
class DataFacts:
    """What a model must know of its data to be built and used; it is saved with the model.

    Attributes:
        channels: Channels of the latents.
        view: Size in px of the training views, and the typical short side of the originals.
        class_names: Names of the classes in label order; empty for a model without classes.
        words: Vocabulary of a model whose text encoder is a table of words.
        latent_size: (height, width) of the latents in training.
        text_encoder: Fingerprint of the frozen text encoder that gave the tokens in training; empty without one.
        autoencoder: Fingerprint of the encoder that gave the latents; empty where it was not recorded.
    """

    channels: int
    view: ViewShape
    class_names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    latent_size: tuple[int, int] = (32, 32)
    text_encoder: str = ""
    autoencoder: str = ""

    def of_shape(self, shape: tuple[int, int]) -> DataFacts:
        """Return the same with views of (height, width) in px; the latents of training stay."""
        return replace(self, view=self.view.of_shape(shape))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a manifest."""
        return {**asdict(self), "view": self.view.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> DataFacts:
        """Read what `to_json` returned. Raises KeyError or TypeError for anything else."""
        return cls(
            channels=content["channels"],
            view=ViewShape.from_json(content["view"]),
            class_names=tuple(content["class_names"]),
            words=tuple(content["words"]),
            latent_size=(content["latent_size"][0], content["latent_size"][1]),
            text_encoder=content.get("text_encoder", ""),
            autoencoder=content.get("autoencoder", ""),
        )


@dataclass(frozen=True)
class ModelSpec:
    """What a diffusion model is built from: two models of equal specs have tensors of equal names and shapes.

    Attributes:
        process: Noise schedule and what the network predicts.
        conditioning: Semantic condition, control conditions and their routes.
        denoiser: The network.
        facts: What the model must know of its data.
        alignment: How a layer is aligned to the autoencoder, for a model that trains; one that samples has none.

    Raises:
        ConfigError: A condition is routed to a slot that the denoiser does not read.
    """

    process: ProcessConfig
    conditioning: ConditioningConfig
    denoiser: DenoiserConfig
    facts: DataFacts
    alignment: AlignmentConfig | None = None

    def __post_init__(self) -> None:
        check_slots(self.conditioning, self.denoiser)

    @property
    def output_channels(self) -> int:
        """Channels that the network predicts: twice those of the latents when the variance is learned."""
        return self.facts.channels * (2 if self.process.learned_variance else 1)

    @property
    def context_dim(self) -> int | None:
        """Width of the context tokens as the conditioning gives them; None without context."""
        semantic = self.conditioning.semantic
        if isinstance(semantic, NoSemantic) or semantic.route == "modulation":
            return None
        if isinstance(semantic, ClassSemantic):
            return semantic.width or self.denoiser.modulation_dim
        return semantic.encoder.width


def check_slots(conditioning: ConditioningConfig, denoiser: DenoiserConfig) -> None:
    """Check that every condition reaches the denoiser.

    Raises:
        ConfigError: A condition is routed to a slot that the denoiser does not read.
    """
    for slot, setting in conditioning.filled_slots.items():
        if slot in denoiser.reads_slots:
            continue
        others = sorted(denoiser.reads_slots)
        raise ConfigError(
            f"denoiser.kind={denoiser.kind} reads no {slot}, where {setting} puts a condition",
            needed=f"a denoiser that reads the {slot}",
            fix=f"conditioning.semantic.route={others[0]}" if others and "route" in setting else "another denoiser.kind",
        )
