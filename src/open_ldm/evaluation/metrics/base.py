"""What every metric needs: two sets of pictures seen by the same extractor, and enough of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from open_ldm.core.counted import counted
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate
from open_ldm.evaluation.statistics import Statistics


@dataclass(frozen=True)
class MetricWords:
    """How a number is called, and what it means in one line.

    `better`: which way is better, if either is. `floor`: the name of the number that says how large this one is for reasons
    that are no fault of the model; no difference below twice the floor decides anything.
    """

    title: str
    meaning: str
    better: Literal["lower", "higher", ""] = "lower"
    floor: str = ""


class Metric(Protocol):
    """A metric's config: its settings, and how it is computed."""

    @property
    def protocol(self) -> str:
        """Name and settings, for protocols: 'kid(subset_size=1000, subsets=100)'."""

    needs_reference: bool
    words: Mapping[str, MetricWords]
    """Words for every estimate that `measure` can return, by its name."""

    def measure(self, samples: Statistics, reference: Statistics, bootstrap: BootstrapConfig) -> list[Estimate]:
        """Compute one or several numbers. A metric that needs no reference is given the samples twice."""


def same_view(samples: Statistics, reference: Statistics) -> None:
    """Raise ConfigError unless both sets were seen by the same extractor at the same size."""
    for name, given in samples.extractor.to_json().items():
        if given != (wanted := reference.extractor.to_json()[name]):
            raise ConfigError(
                f"samples and reference differ in the extractor's {name}: {given} against {wanted}",
                fix="measure both with one extractor",
            )
    if samples.pictures.size_px != reference.pictures.size_px:
        one, other = ("x".join(map(str, each.pictures.size_px)) for each in (samples, reference))
        raise ConfigError(
            f"the samples have {one} px, the reference has {other} px",
            fix="read the reference with the samples' size_px",
        )


def at_least(least: int, metric: str, samples: Statistics, reference: Statistics | None = None) -> None:
    """Raise DataError when a set has fewer than `least` single pictures."""
    for what, each in (("samples", samples), ("reference data", reference)):
        if each is not None and len(each.rows) < least:
            raise DataError(
                f"{metric}: the {what} hold only {counted(len(each.rows), 'picture')}", needed=f"at least {least} pictures"
            )
