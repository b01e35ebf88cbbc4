"""Control influence: how much a picture changes when only one control changes. Lower is better."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate_mean
from open_ldm.evaluation.features.base import ExtractorId, FeatureExtractor
from open_ldm.evaluation.features.distance import DistanceName, distance
from open_ldm.evaluation.protocol import Result, build_protocol
from open_ldm.evaluation.statistics import checked

SIZES_PX = ("64", "128", "256", "512", "1024")
SMALL_SIZES_PX = ("64", "128")


class ControlInfluenceConfig(Config):
    """Mean distance between samples of the same seed and semantic condition under every two of `values` of one `control`.

    With layers of LPIPS, and sizes as values, this is the paper's measure (arXiv 2411.03177, Table 2a); `small` values are left
    out of the second number, its "HR". 0: the control changes nothing.
    Differs from the paper / unverified: that it averages over all pairs is reconstructed.
    """

    control: str = "size"
    values: tuple[str, ...] = SIZES_PX
    small: tuple[str, ...] = SMALL_SIZES_PX
    over: DistanceName = "layers"

    def protocol(self, values: Sequence[str]) -> str:
        """Name and settings, for protocols."""
        return f"control_influence({self.control}={'|'.join(values)}, over={self.over})"


@dataclass(frozen=True)
class ControlledPictures:
    """The same B samples under each value of a control: value -> images float [B, 3, H, W]; `numbers`: their seeds."""

    images: Mapping[str, Tensor]
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class PairDistances:
    """`distances` float64 [n, pairs] of n samples, sorted by number; `pairs` of control values."""

    config: ControlInfluenceConfig
    extractor: ExtractorId
    size_px: tuple[int, int]
    pairs: tuple[tuple[str, str], ...]
    numbers: tuple[int, ...]
    distances: Tensor

    def results(
        self, bootstrap: BootstrapConfig | None = None, sampling: Mapping[str, str] | None = None
    ) -> tuple[Result, ...]:
        """The influence over all values, and over those that are not small where some are and at least two are left.

        Intervals are over samples: a sample's pairs are averaged first.
        """
        bootstrap = bootstrap or BootstrapConfig()
        results = []
        wanted = {"control_influence": self.config.values}
        large = tuple(value for value in self.config.values if value not in self.config.small)
        if 2 <= len(large) < len(self.config.values):
            wanted["control_influence_large"] = large
        for name, values in wanted.items():
            chosen = [column for column, pair in enumerate(self.pairs) if set(pair) <= set(values)]
            protocol = build_protocol(
                self.config.protocol(values), self.extractor, self.size_px, str(len(self.numbers)), bootstrap, sampling=sampling
            )
            results.append(Result(estimate_mean(name, self.distances[:, chosen].mean(dim=1), bootstrap), protocol))
        return tuple(results)

    def table(self) -> dict[tuple[str, str], float]:
        """Mean distance of each pair of values."""
        return dict(zip(self.pairs, self.distances.mean(dim=0).tolist(), strict=True))


@torch.no_grad()
def pair_distances(
    batches: Iterable[ControlledPictures],
    extractor: FeatureExtractor,
    config: ControlInfluenceConfig | None = None,
    *,
    world: World | None = None,
) -> PairDistances:
    """Read `batches` once and compare every two values of the control, sample by sample.

    With a `world` each process reads its share and every one gets the result. Raises DataError for an empty set, pictures that
    differ in size, or features that are not finite; ConfigError for values that are missing.
    """
    config, world = config or ControlInfluenceConfig(), world or World()
    pairs = tuple(itertools.combinations(config.values, 2))
    numbers: list[int] = []
    rows: list[Tensor] = []
    sizes: set[tuple[int, int]] = set()
    for batch in batches:
        if missing := [value for value in config.values if value not in batch.images]:
            raise ConfigError(f"no pictures for {config.control}={missing[0]}", needed=", ".join(config.values))
        sizes |= {(images.shape[-2], images.shape[-1]) for images in batch.images.values()}
        features = {value: extractor.extract(batch.images[value]) for value in config.values}
        for each in features.values():
            checked(each, batch.numbers, extractor.id)
        rows.append(torch.stack([distance(features[a], features[b], config.over) for a, b in pairs], dim=1).cpu())
        numbers += batch.numbers
    together = world.gathered((numbers, rows, sizes), "distances between controls")
    all_numbers = [number for part, _, _ in together for number in part]
    all_sizes = set().union(*(part for _, _, part in together))
    if not all_numbers or not pairs:
        raise DataError(
            f"there are {len(all_numbers)} samples and {len(config.values)} values of {config.control}",
            needed="at least one sample and two values",
        )
    if len(all_sizes) > 1:
        raise DataError(f"pictures of different sizes: {sorted(all_sizes)}", needed="pictures of one size")
    distances = torch.cat([row for _, part, _ in together for row in part])
    order = sorted(range(len(all_numbers)), key=all_numbers.__getitem__)
    return PairDistances(
        config, extractor.id, all_sizes.pop(), pairs, tuple(all_numbers[i] for i in order), distances[torch.tensor(order)]
    )
