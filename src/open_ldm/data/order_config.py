"""Which order a training reads its samples in: `data.order`, and what it is where a recipe leaves it open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from open_ldm.core.config import Config

WINDOWED_ABOVE = 1_000_000
"""A new run of more samples than this is read in windows."""


class GlobalOrderConfig(Config):
    """Every epoch is one permutation of all samples (data/order.py), or of those of each bucket (data/bucket_order.py)."""

    kind: Literal["global"] = "global"


class WindowedOrderConfig(Config):
    """Samples are mixed over many shards, of which each process reads few at a time (data/windowed_order.py).

    Attributes:
        streams: How many streams of shards are read side by side. Where the number of processes divides it, each process reads
            its own ones.
        window: Samples of a stream that are permuted together.
    """

    kind: Literal["windowed"] = "windowed"
    streams: int = Field(default=1024, ge=1, le=8192)
    window: int = Field(default=8192, ge=1, le=1 << 24)


OrderConfig = Annotated[GlobalOrderConfig | WindowedOrderConfig, Field(discriminator="kind")]


@dataclass(frozen=True)
class ChosenOrder:
    """The order of a training, and why it is this one."""

    config: GlobalOrderConfig | WindowedOrderConfig
    why: str

    @property
    def windowed(self) -> bool:
        """Whether it is the windowed order, in which processes share a batch in strides."""
        return isinstance(self.config, WindowedOrderConfig)

    def sentence(self) -> str:
        """Write 'samples in windowed order (1,024 streams, windows of 8,192), since there are more than 1,000,000'."""
        if isinstance(self.config, GlobalOrderConfig):
            return f"samples in global order, {self.why}"
        shape = f"{self.config.streams:,} streams, windows of {self.config.window:,}"
        return f"samples in windowed order ({shape}), {self.why}"


def choose_order(
    given: GlobalOrderConfig | WindowedOrderConfig | None, samples: int, *, buckets: bool, begun: bool = False
) -> ChosenOrder:
    """Choose the order of a training where its recipe leaves that open.

    Args:
        given: What the recipe says; None where it says nothing.
        samples: Number of samples that are trained on.
        buckets: Whether views have several shapes, which the windowed order does not know.
        begun: Whether the training goes on, and so keeps what it began with.
    """
    if given is not None:
        return ChosenOrder(given, "as the run began" if begun else "as the recipe says")
    if samples <= WINDOWED_ABOVE:
        return ChosenOrder(GlobalOrderConfig(), f"since there are no more than {WINDOWED_ABOVE:,}")
    if buckets:
        return ChosenOrder(GlobalOrderConfig(), "since their views have several shapes")
    return ChosenOrder(WindowedOrderConfig(), f"since there are more than {WINDOWED_ABOVE:,}")
