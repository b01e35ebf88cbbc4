"""What a model must know of its data besides its settings, as it is stored in every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from open_ldm.autoencoders import LatentStats
from open_ldm.core.errors import CheckpointError
from open_ldm.model.spec import DataFacts


@dataclass(frozen=True)
class Knowledge:
    """What a run learned of its data before training: facts, and statistics of the raw latents."""

    facts: DataFacts
    stats: LatentStats

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a checkpoint's manifest."""
        stats = {"mean": list(self.stats.mean), "std": list(self.stats.std)}
        return {"facts": self.facts.to_json(), "latent_stats": stats}

    @classmethod
    def from_json(cls, content: Any) -> Knowledge:
        """Read what `to_json` wrote from a manifest's content.

        Raises:
            CheckpointError: The manifest lacks it, or it makes no sense.
        """
        try:
            stats = content["latent_stats"]
            return cls(DataFacts.from_json(content["facts"]), LatentStats(tuple(stats["mean"]), tuple(stats["std"])))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise CheckpointError(f"the manifest lacks {error}", needed="a checkpoint written by this program") from error
        except ValueError as error:
            raise CheckpointError(str(error)) from error
