"""`ldm data stats`: mean and deviation of every latent channel of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from open_ldm.autoencoders import LatentStats, MeasuredStats
from open_ldm.core.device import set_up_machine
from open_ldm.core.events import Progress
from open_ldm.data.health import Health
from open_ldm.data.sample import Batch
from open_ldm.runs.autoencoder_format import settle_format
from open_ldm.runs.build import measure_latent_stats
from open_ldm.runs.encoders import load_autoencoder
from open_ldm.runs.ordering import order_of
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.shapes import buckets_of
from open_ldm.sources.loader import open_data


@dataclass(frozen=True)
class LatentReport:
    """`pictures` views of a recipe's data, and the statistics of their raw latents."""

    autoencoder: str
    data: str
    pictures: int
    stats: LatentStats

    @property
    def setting(self) -> dict[str, Any]:
        """What to write as `latent_stats` to use these numbers without measuring them again."""
        return self.stats.as_given().model_dump(mode="json")

    def text(self) -> str:
        """A table, and the setting as one line of YAML."""
        numbers = zip(self.stats.mean, self.stats.std, strict=True)
        rows = [f"{i:>7}  {mean:>12.5g}  {std:>12.5g}" for i, (mean, std) in enumerate(numbers)]
        flow = yaml.safe_dump({"latent_stats": self.setting}, default_flow_style=True, sort_keys=False, width=10**6).strip()
        return "\n".join(
            [
                f"raw latents of {self.pictures:,} views; autoencoder {self.autoencoder}; {self.data}",
                f"{'channel':>7}  {'mean':>12}  {'std':>12}",
                *rows,
                "to use these numbers, write into the recipe:",
                flow.removeprefix("{").removesuffix("}"),
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "autoencoder": self.autoencoder,
            "data": self.data,
            "pictures": self.pictures,
            "mean": list(self.stats.mean),
            "std": list(self.stats.std),
            "latent_stats": self.setting,
        }


def report_latents(recipe: Recipe, silent: bool = False) -> LatentReport:
    """Measure on the first views that training would see: as many as `latent_stats.pictures` says, or its default.

    Raises DataError when more than 1 % of the pictures are bad.
    """
    how = recipe.latent_stats if isinstance(recipe.latent_stats, MeasuredStats) else MeasuredStats()
    measured = recipe.model_copy(update={"latent_stats": how})
    machine = set_up_machine(recipe.training.device, recipe.training.dtype)
    source = open_data(recipe.data, captions=recipe.conditioning.reads_captions)
    health = Health(len(source))
    done = 0
    with Progress(how.pictures, label="measure", unit="pictures", silent=silent) as progress:

        def count(batch: Batch) -> None:
            """Count the pictures of a batch and its bad ones."""
            nonlocal done
            done += len(batch.positions)
            health.add(batch.bad)
            health.check()
            progress.update(done)

        measured, _ = settle_format(measured, source, machine, writes=False)
        buckets = buckets_of(recipe.transform, source)
        order = order_of(recipe, source, buckets)
        stats = measure_latent_stats(measured, source, load_autoencoder(measured, None, machine), machine, order, count)
    path = getattr(recipe.autoencoder, "location", "")
    name = f"{recipe.autoencoder.kind} {path}".strip()
    return LatentReport(name, source.summary.sentence(), how.pictures, stats)
