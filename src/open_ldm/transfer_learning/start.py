"""Starting a model from another: the weights it starts with, the settings that differ, and the receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from open_ldm.autoencoders import AutoencoderConfig, LatentStats, latent_shape
from open_ldm.core.config import flattened
from open_ldm.data.transforms import TransformConfig
from open_ldm.model.objective import ObjectiveConfig
from open_ldm.model.spec import ModelSpec
from open_ldm.transfer_learning.carry import Carried, carry
from open_ldm.transfer_learning.expected import skeleton
from open_ldm.transfer_learning.receipt import Receipt, as_text
from open_ldm.transfer_learning.settings import InitFromConfig
from open_ldm.transfer_learning.settle import SizedSettings


@dataclass(frozen=True)
class TrainedSettings:
    """A model, and the settings that decide what its weights mean: those in which two trainings are compared.

    Attributes:
        spec: The model.
        autoencoder: What gave its latents.
        objective: What it was trained for.
        transform: How its pictures were cut.
        latent_stats: What its latents were normalised by.
    """

    spec: ModelSpec
    autoencoder: AutoencoderConfig
    objective: ObjectiveConfig
    transform: TransformConfig
    latent_stats: LatentStats

    @property
    def sized(self) -> SizedSettings:
        """Its settings that depend on the size of the pictures."""
        _, *latent_size = latent_shape(self.autoencoder, self.transform.height_px, self.transform.width_px)
        return SizedSettings(self.spec.process, self.spec.denoiser, self.transform.size_px, (latent_size[0], latent_size[1]))

    def differences(self, other: TrainedSettings) -> dict[str, tuple[Any, Any]]:
        """Compare the settings with another model's.

        Args:
            other: The new model's.

        Returns:
            {dotted name: (here, there)} of every setting that is not equal; None where one side has no such setting.
        """
        here, there = self._flattened(), other._flattened()
        return {name: (here.get(name), there.get(name)) for name in {**here, **there} if here.get(name) != there.get(name)}

    def _flattened(self) -> dict[str, Any]:
        blocks = {
            "autoencoder": self.autoencoder,
            "conditioning": self.spec.conditioning,
            "process": self.spec.process,
            "objective": self.objective,
            "denoiser": self.spec.denoiser,
            "data.transform": self.transform,
        }
        flat = flattened({name: block.model_dump(mode="json") for name, block in blocks.items()})
        return flat | {"latents.mean": list(self.latent_stats.mean), "latents.std": list(self.latent_stats.std)}


@dataclass(frozen=True)
class StartingPoint:
    """The model that another starts from: its settings, and the tensors of one set of its weights.

    Attributes:
        path: Where it lies.
        checkpoint: Name of the checkpoint that the tensors are from.
        samples_seen: By then.
        settings: What it was trained with.
        tensors: Its weights, by name.
        sha256: Of the file they were read from, in hexadecimal; empty when they are not yet there.
        problems: One line for each newer checkpoint that was passed over.
    """

    path: Path
    checkpoint: str
    samples_seen: int
    settings: TrainedSettings
    tensors: Mapping[str, Tensor]
    sha256: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Started:
    """How a model began.

    Attributes:
        source: What it started from.
        weights: Which set of the source's weights, "averaged" or "raw".
        settings: {dotted name: (there, here)} of the settings that differ.
        receipt: What became of every tensor.
    """

    source: StartingPoint
    weights: str
    settings: Mapping[str, tuple[Any, Any]]
    receipt: Receipt

    def sentence(self) -> str:
        """Say where it started, and how much was carried over."""
        point = f"{self.source.path} ({self.source.checkpoint}, {self.weights} weights)"
        return f"starts from {point}: {self.receipt.sentence()}"

    def text(self) -> str:
        """Return the receipt as a table, the settings that differ, and the sentence."""
        settings = [f"{name}: {_shown(there)} there, {_shown(here)} here" for name, (there, here) in self.settings.items()]
        return "\n".join([as_text(self.receipt.rows()), *settings, self.sentence()])

    def to_json(self) -> dict[str, Any]:
        """Return the content of transfer.json."""
        source = {
            "path": str(self.source.path),
            "checkpoint": self.source.checkpoint,
            "samples_seen_there": self.source.samples_seen,
            "weights": self.weights,
            "sha256": self.source.sha256,
        }
        settings = {name: list(both) for name, both in self.settings.items()}
        return {"source": source, "settings": settings, **self.receipt.to_json()}


def start(
    settings: TrainedSettings, source: StartingPoint, fresh: Mapping[str, Tensor], init: InitFromConfig
) -> tuple[Carried, Started]:
    """Carry the weights of a starting point over to a new model.

    Args:
        settings: The new model's, with nothing left open (`settle`).
        source: Where it starts from.
        fresh: The tensors that it would start with otherwise; they are not changed.
        init: How tensors are carried over, and which may be new or dropped.

    Returns:
        The tensors that the model starts with, and how that came about.

    Raises:
        ConfigError: A tensor that should carry over does not.
    """
    carried = carry(source.settings.spec, source.tensors, settings.spec, fresh, init)
    return carried, Started(source, init.weights, source.settings.differences(settings), carried.receipt)


def start_without_numbers(settings: TrainedSettings, source: StartingPoint, init: InitFromConfig) -> Started:
    """Tell how a model would begin, without building it in memory; arguments and errors as for `start`."""
    fresh = skeleton(settings.spec).state_dict()
    there = replace(source, tensors={name: tensor.to("meta") for name, tensor in source.tensors.items()})
    return start(settings, there, fresh, init)[1]


def _shown(value: Any) -> str:
    """A setting for people: of measured numbers four digits."""
    if isinstance(value, list) and value and all(isinstance(each, float) for each in value):
        return f"[{', '.join(f'{each:.4g}' for each in value)}]"
    return str(value)
