"""Settling what a recipe leaves open: positions and noise schedule that follow from those of the model it starts from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from open_ldm.core.errors import ConfigError
from open_ldm.denoisers import DenoiserConfig
from open_ldm.denoisers.base import TransformerConfig
from open_ldm.denoisers.blocks.embeddings import patches_of
from open_ldm.denoisers.blocks.positions import GridPositions, PositionsConfig, positions_on
from open_ldm.model.spec import ProcessConfig
from open_ldm.process.resolution import ResolutionConfig, area
from open_ldm.transfer_learning.settings import InitFromConfig


@dataclass(frozen=True)
class SizedSettings:
    """The settings of a model that depend on the size of its pictures, and that size.

    Attributes:
        process: Holds the shift of the noise schedule, `resolution`.
        denoiser: Holds the positions, where it is a transformer with a fixed table.
        size_px: Side of the pictures in px, or (height, width).
        latent_size: (height, width) of their latents.
    """

    process: ProcessConfig
    denoiser: DenoiserConfig
    size_px: int | tuple[int, int]
    latent_size: tuple[int, int]

    @property
    def factor(self) -> int:
        """How many times the autoencoder shrinks a side of the pictures."""
        height_px = self.size_px if isinstance(self.size_px, int) else self.size_px[0]
        return height_px // self.latent_size[0]


def settle(model: SizedSettings, source: SizedSettings, init: InitFromConfig) -> SizedSettings:
    """Fill in the positions and the noise schedule that a model leaves open (docs/method.md, 5.1 and 5.2).

    Args:
        model: Of the new model.
        source: Of the model that it starts from.
        init: How positions reach another grid, and whether the schedule follows the size.

    Returns:
        The settings of the new model with nothing left open.

    Raises:
        ConfigError: The new model states other positions or another schedule, or its source's have no equal at its size.
    """
    settled = replace(model, process=model.process.model_copy(update={"resolution": _resolution(model, source, init)}))
    there, here = source.denoiser, model.denoiser
    if not (isinstance(there, TransformerConfig) and isinstance(here, TransformerConfig)):
        return settled
    grids = patches_of(source.latent_size, there.patch), patches_of(model.latent_size, here.patch)
    positions = positions_on(there.positions, *grids, init.positions)
    _require_open("denoiser.positions", here.positions, positions, (GridPositions(), there.positions))
    return replace(settled, denoiser=here.model_copy(update={"positions": positions}))


def settle_as_before(model: SizedSettings, before: SizedSettings) -> SizedSettings:
    """Fill in what a model leaves open with what its own run settled on when it started.

    Args:
        model: As its recipe states it now.
        before: As it was settled then.

    Returns:
        The settings of `model`; whatever it states itself stays, also where that differs from before.
    """
    if model.process.resolution is None:
        model = replace(model, process=model.process.model_copy(update={"resolution": before.process.resolution}))
    there, here = before.denoiser, model.denoiser
    if not (isinstance(there, TransformerConfig) and isinstance(here, TransformerConfig)):
        return model
    if not _may_be_open(here.positions, there.positions):
        return model
    return replace(model, denoiser=here.model_copy(update={"positions": there.positions}))


def _may_be_open(stated: PositionsConfig, settled_on: PositionsConfig) -> bool:
    """Whether a recipe that states these positions may be the one that was settled on those: it left them open, or stated its
    source's, which can be told from what they became."""
    if stated in (GridPositions(), settled_on, getattr(settled_on, "of", None)):
        return True
    return stated.kind == settled_on.kind and stated.kind in ("grid", "stored")


def _resolution(model: SizedSettings, source: SizedSettings, init: InitFromConfig) -> ResolutionConfig | None:
    """The shift of the noise schedule: from the size at which the source's had none to this one."""
    there, own = source.process.resolution, model.process.resolution
    if not init.rescale_noise:
        return own or _moved(there, model.size_px)
    origin = source.size_px if there is None else there.from_px
    if source.factor != model.factor:
        raise ConfigError(
            f"the autoencoder shrinks pictures {model.factor} times, the source's {source.factor} times",
            needed="one factor for init_from.rescale_noise, which compares sizes in pixels",
            fix="set init_from.rescale_noise=false, and process.resolution by hand",
        )
    wanted = None if area(origin) == area(model.size_px) else ResolutionConfig(from_px=origin, to_px=model.size_px)
    _require_open("process.resolution", own, wanted, (None, there))
    return wanted


def _moved(resolution: ResolutionConfig | None, size: int | tuple[int, int]) -> ResolutionConfig | None:
    """The same shift, written for pictures of another size."""
    if resolution is None or area(resolution.to_px) == area(size):
        return resolution
    if isinstance(size, int) and isinstance(resolution.from_px, int) and isinstance(resolution.to_px, int):
        origin, rest = divmod(resolution.from_px * size, resolution.to_px)
        if not rest:
            return ResolutionConfig(from_px=origin, to_px=size)
    raise ConfigError(
        f"the source's process.resolution, {resolution.from_px} to {resolution.to_px} px, has no equal for {size} px",
        fix="state process.resolution",
    )


def _require_open(
    name: str, own: PositionsConfig | ResolutionConfig | None, wanted: object, open_values: tuple[object, ...]
) -> None:
    """Raise ConfigError where a recipe states something else than what follows from its source."""
    if own != wanted and own not in open_values:
        raise ConfigError(f"{name}={own} differs from what follows from init_from, {wanted}", fix=f"leave {name} out")
