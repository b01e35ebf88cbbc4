"""`ldm autoencoder train RECIPE --dry-run`: resolve, build and count, without data and without memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from open_ldm.autoencoders.network import build_network
from open_ldm.commands.absent import absent_device
from open_ldm.core.config import to_yaml
from open_ldm.core.counted import counted
from open_ldm.core.shapes_only import shapes_only
from open_ldm.runs.autoencoder.recipe import AutoencoderRecipe
from open_ldm.sources.files import NoSuchPath
from open_ldm.sources.loader import open_data
from open_ldm.tracking import check_trackers


@dataclass(frozen=True)
class DryRun:
    """A recipe that builds. `values_per_latent`: how many numbers of the picture one of the latents stands for. `absent`: what
    is not on this machine, one line each."""

    recipe: AutoencoderRecipe
    parameters: int
    values_per_latent: float
    absent: tuple[str, ...] = ()

    def text(self) -> str:
        """The resolved recipe, then the counts."""
        training = self.recipe.training
        updates = -(-training.samples // training.batch_size)
        return (
            f"{to_yaml(self.recipe)}\n"
            f"# autoencoder: {self.parameters:,} parameters, {self.values_per_latent:g} picture values per latent\n"
            f"# training: {training.samples:,} samples in {counted(updates, 'update')}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "parameters": self.parameters,
            "values_per_latent": self.values_per_latent,
            "absent": list(self.absent),
        }


def dry_run(recipe: AutoencoderRecipe) -> DryRun:
    """Build on the meta device. Raises what training would raise for data that are there but of no use."""
    network = recipe.network
    with shapes_only():
        parameters = sum(parameter.numel() for parameter in build_network(network, recipe.training.seed).parameters())
    check_trackers(recipe.track)
    absent = absent_device(recipe.training)
    try:
        open_data(recipe.data, captions=False)
    except NoSuchPath as error:
        absent.insert(0, error.problem)
    return DryRun(recipe, parameters, network.factor**2 * network.in_channels / network.latent_channels, tuple(absent))
