"""The published models that `ldm import` knows by name."""

from __future__ import annotations

from open_ldm.core.errors import ConfigError, nearest
from open_ldm.interop.dit import DiTFamily
from open_ldm.interop.family import Family
from open_ldm.interop.mdtv2 import MDTv2Family
from open_ldm.interop.mmdit import MMDiTFamily
from open_ldm.interop.pixart import PixArtFamily
from open_ldm.interop.unet import UNetFamily

FAMILIES: dict[str, Family] = {
    "dit": DiTFamily(),
    "mdtv2": MDTv2Family(),
    "mmdit": MMDiTFamily(),
    "pixart": PixArtFamily(),
    "unet": UNetFamily(),
}
"""Families by the kind of their denoiser."""

NAMES = {"dit-xl-2": "dit", "ldm-4-g": "unet", "mdtv2-xl-2": "mdtv2", "pixart-xl-2": "pixart", "sd3-medium": "mmdit"}
"""Name on the command line -> kind. Geometry is read from the file, so a name stands for every size of its family."""


def family_of(name: str) -> Family:
    """The family of a published model, by its name on the command line. Raises ConfigError for an unknown one."""
    if name not in NAMES:
        raise ConfigError(f"there is no published model named {name!r}", needed=nearest(name, NAMES))
    return FAMILIES[NAMES[name]]
