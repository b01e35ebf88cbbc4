"""`autoencoder.dtype=auto`: float32 or bf16, settled once, before a recipe is hashed or a cache opened.

In this order:

1. A run that goes on keeps its format.
2. A cache that was begun with this encoder is finished with its format (encoded/cache/format_record.py).
3. A run that starts from another one's weights takes the format of that, if it is the same encoder and the device is no worse.
4. A device that does not multiply bf16 itself takes float32.
5. Pictures are reconstructed in both formats (autoencoders/formats.py): bf16 where they come back as good.

What was settled stands in the run's recipe, and in its cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor

from open_ldm.autoencoders import Autoencoder, AutoencoderConfig
from open_ldm.autoencoders.formats import PICTURES, compare_formats
from open_ldm.autoencoders.pretrained import PretrainedConfig
from open_ldm.core.device import Machine, multiplies_bf16
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.core.pictures import to_images
from open_ldm.core.signals import StopRequest
from open_ldm.core.slow_steps import SlowSteps
from open_ldm.data.sample import Source
from open_ldm.encoded.cache.format_record import Format, FormatRecord
from open_ldm.runs.build import read_live
from open_ldm.runs.cached_source import CachedSource
from open_ldm.runs.encoders import load_autoencoder
from open_ldm.runs.ordering import order_of
from open_ldm.runs.recipe import Recipe

_AT_ONCE = 16

EMULATED = (
    "autoencoder.dtype=bf16: this device only imitates bf16, so encoding takes several times as long as in float32;"
    " decoding is in float32 (docs/autoencoders.md)"
)


def require_format_by_name(recipe: Recipe) -> None:
    """Refuse a format that each of several trainings that are compared would settle for itself. Raises ConfigError."""
    if _is_open(recipe.autoencoder):
        raise ConfigError(
            "autoencoder.dtype=auto is settled by each training for itself",
            needed="one format for all that are compared",
            fix="autoencoder.dtype=float32, or bf16",
        )


def begun_format(now: AutoencoderConfig, before: AutoencoderConfig) -> AutoencoderConfig:
    """Give the autoencoder of a run that goes on the format that it began with, where the recipe leaves that open.

    It may have moved, so its path does not matter; another encoder is refused by its fingerprint.
    """
    if _is_open(now) and isinstance(before, PretrainedConfig):
        return now.model_copy(update={"dtype": before.dtype})
    return now


def note_on_begun(asked: AutoencoderConfig, begun: AutoencoderConfig) -> list[str]:
    """Say which format a run that goes on keeps, in a line; nothing where the recipe names one, or the run begins."""
    kept = getattr(begun, "dtype", "auto")
    return [f"autoencoder in {kept}, as this run began"] if _is_open(asked) and kept != "auto" else []


def settle_format(
    recipe: Recipe,
    source: Source,
    machine: Machine,
    world: World | None = None,
    stop: StopRequest | None = None,
    *,
    of_start: str | None = None,
    writes: bool = True,
    silent: bool = True,
) -> tuple[Recipe, list[str]]:
    """Fill in the format that a recipe leaves to `auto`; a run that goes on has one already.

    Args:
        recipe: Settled but for this.
        source: What it trains on.
        machine: Where this process computes.
        world: The processes that work together: the leading one chooses, and bf16 only where the chips of all multiply it.
        stop: Ends a comparison of formats.
        of_start: Fingerprint of the encoder of the run that it starts from.
        writes: Whether the recipe's cache keeps what is chosen.
        silent: What is waited for is not said.

    Returns:
        The recipe with a format by name, and what the user should know of it, a line each.

    Raises:
        ConfigError: The autoencoder cannot be loaded, or is for other pictures.
        DataError: What the cache keeps of its choice is damaged.
        StoppedError: A stop signal came.
    """
    world, asked = world or World(), recipe.autoencoder
    if not isinstance(asked, PretrainedConfig):
        return recipe, []
    fast = all(world.gathered(multiplies_bf16(machine.device), "whether bf16 is fast"))
    if asked.dtype != "auto":
        return recipe, [] if fast or asked.dtype != "bf16" else [EMULATED]
    choice = _Choice(recipe, source, machine, fast, of_start, stop or StopRequest(), writes, silent)
    dtype, why = world.everyone(choice.made, "the format of the autoencoder")
    told = [f"autoencoder in {dtype}: {why}"]
    return _with_format(recipe, dtype), told if fast or dtype != "bf16" else [*told, EMULATED]


@dataclass(frozen=True)
class _Choice:
    """What a format is chosen by; the attributes are the arguments of `settle_format`."""

    recipe: Recipe
    source: Source
    machine: Machine
    fast: bool
    of_start: str | None
    stop: StopRequest
    writes: bool
    silent: bool

    def made(self) -> tuple[Format, str]:
        """Choose a format, and say why; a cache that has begun decides, and another one keeps the choice."""
        slow = SlowSteps(silent=self.silent)
        sides = {dtype: slow("loading the autoencoder", self._loaded, dtype) for dtype in _FORMATS}
        cache = self.recipe.cache
        if cache is None:
            return self._new(sides, slow)
        record = FormatRecord(cache.path, {dtype: side.fingerprint for dtype, side in sides.items()})
        writes = self.writes and not cache.frozen and not isinstance(self.source, CachedSource)
        if (begun := self._begun(record)) is not None:
            return begun
        with record.choosing(self.stop.raise_if_requested) if writes else nullcontext():
            if (begun := self._begun(record)) is not None:  # another process was quicker
                return begun
            dtype, why = self._new(sides, slow)
            if writes:
                record.write(dtype, why)
            return dtype, why

    def _loaded(self, dtype: Format) -> Autoencoder:
        return load_autoencoder(_with_format(self.recipe, dtype), None, self.machine)

    def _begun(self, record: FormatRecord) -> tuple[Format, str] | None:
        found = record.read(self.recipe.transform.model_dump(mode="json"), len(self.source))
        return None if found is None else (found, f"cache {record.root} was begun with it")

    def _new(self, sides: dict[Format, Autoencoder], slow: SlowSteps) -> tuple[Format, str]:
        """Choose where nothing was begun."""
        of_start = next((dtype for dtype in _FORMATS if sides[dtype].fingerprint == self.of_start), None)
        if of_start is not None and (self.fast or of_start == "float32"):
            return of_start, "the run it starts from has it"
        if not self.fast:
            return "float32", "this device only imitates bf16"
        if isinstance(self.source, CachedSource) or not len(self.source):
            return "float32", "no pictures are at hand to compare formats on"
        what = f"comparing bf16 with float32 on up to {PICTURES} pictures"
        found = slow(what, compare_formats, sides["float32"], sides["bf16"], self._images())
        return "bf16" if found.harmless else "float32", found.sentence()

    def _images(self) -> Iterator[Tensor]:
        """The first views that training will see, all of one shape, a few at a time."""
        data = self.recipe.data
        one_shape = data.model_copy(update={"transform": data.transform.model_copy(update={"buckets": None})})
        recipe, count = self.recipe.model_copy(update={"data": one_shape}), min(PICTURES, len(self.source))
        ranges = [range(start, min(start + _AT_ONCE, count)) for start in range(0, count, _AT_ONCE)]
        for batch in read_live(recipe, self.source, order_of(recipe, self.source, None), ranges):
            self.stop.raise_if_requested()
            yield to_images(batch.pixels.to(self.machine.device))


_FORMATS: tuple[Format, ...] = ("float32", "bf16")


def _with_format(recipe: Recipe, dtype: Format) -> Recipe:
    return recipe.model_copy(update={"autoencoder": recipe.autoencoder.model_copy(update={"dtype": dtype})})


def _is_open(config: AutoencoderConfig) -> bool:
    return isinstance(config, PretrainedConfig) and config.dtype == "auto"
