"""Denoisers: one file each, with one contract (base.py). The union below lists them."""

from typing import Annotated, assert_never

from pydantic import Field

from open_ldm.conditioning.inputs import Conditions
from open_ldm.denoisers.base import Denoiser, Prediction, Slots
from open_ldm.denoisers.dit import DiT, DiTConfig
from open_ldm.denoisers.mdtv2 import MDTv2, MDTv2Config
from open_ldm.denoisers.mmdit import MMDiT, MMDiTConfig
from open_ldm.denoisers.pixart import PixArt, PixArtConfig
from open_ldm.denoisers.unet import UNet, UNetConfig

DenoiserConfig = Annotated[DiTConfig | MDTv2Config | MMDiTConfig | PixArtConfig | UNetConfig, Field(discriminator="kind")]


def build_denoiser(config: DenoiserConfig, slots: Slots) -> Denoiser:
    """Build the denoiser that a config describes.

    Args:
        config: Kind and geometry.
        slots: What the network must accept and return.

    Returns:
        The network with initial weights from torch's default generator, which the caller seeds.
    """
    match config:
        case DiTConfig():
            return DiT(config, slots)
        case MDTv2Config():
            return MDTv2(config, slots)
        case MMDiTConfig():
            return MMDiT(config, slots)
        case PixArtConfig():
            return PixArt(config, slots)
        case UNetConfig():
            return UNet(config, slots)
        case _:
            assert_never(config)


__all__ = [
    "Conditions",
    "Denoiser",
    "DenoiserConfig",
    "DiTConfig",
    "MDTv2Config",
    "MMDiTConfig",
    "PixArtConfig",
    "Prediction",
    "Slots",
    "UNetConfig",
    "build_denoiser",
]
