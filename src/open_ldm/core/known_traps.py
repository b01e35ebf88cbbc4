"""Versions of libraries that give a wrong result or fail without a word that helps: what `ldm doctor` warns of by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Trap:
    """One library, the versions that do it, and what to do.

    Attributes:
        library: Name of its distribution.
        versions: Beginnings of version numbers, such as '5.2.'; () is every version.
        happens: What happens.
        fix: What to do.
        source: Where it was seen.
        until_python: The newest Python, as (major, minor), that has it; None is every one.
    """

    library: str
    versions: tuple[str, ...]
    happens: str
    fix: str
    source: str
    until_python: tuple[int, int] | None = None


TRAPS = (
    Trap(
        "datasets",
        ("5.2.",),
        "stores a picture given as a uint16 array [H, W, 3] modulo 256, with a warning alone",
        "give it the file's bytes, or use kind: folder with bits: 16",
        "findings/datasets-colour-arrays-of-16-bits.sh",
    ),
    Trap(
        "transformers",
        ("5.",),
        "loads weights in the number format of their file, often 16 bits",
        "nothing for open-ldm, which names the format; in code of your own give dtype",
        "transformers 5.23.0, 2026-11",
    ),
    Trap(
        "diffusers",
        ("0.40.",),
        "ignores `timesteps` given to the flow-matching scheduler of an exported pipeline",
        "pip install -U diffusers (0.42.1 uses them)",
        "diffusers 0.40.0 and 0.42.1, 2026-11",
    ),
    Trap(
        "diffusers",
        (),
        "its DDIM step gives NaN at the first step of a zero-terminal-SNR schedule with eta = 1",
        "sample with ldm, whose step is finite there, or with eta = 0",
        "findings/diffusers-ddim-zero-terminal-snr-eta-one.sh",
    ),
    Trap(
        "pillow",
        ("12.", "13."),
        "reads 16-bit RGB TIFF with separate planes and no compression as noise",
        "nothing for open-ldm, which reads TIFF through tifffile; in code of your own do the same",
        "findings/pillow-tiff-separate-planes-of-16-bits.sh",
    ),
    Trap(
        "tifffile",
        ("2026.3.",),
        "is the last version for Python 3.11: later ones name series and axes of some files otherwise",
        "nothing for open-ldm, which reads what both say",
        "tifffile 2026.3.3, 2026-11",
        until_python=(3, 11),
    ),
)


def traps_in(installed: Mapping[str, str]) -> list[tuple[Trap, str]]:
    """Find the traps of what is installed.

    Args:
        installed: {distribution: version}.

    Returns:
        Each trap with the version that has it.
    """
    found = []
    for trap in TRAPS:
        version = installed.get(trap.library)
        old_enough = trap.until_python is None or sys.version_info[:2] <= trap.until_python
        if version is not None and old_enough and (not trap.versions or f"{version}.".startswith(trap.versions)):
            found.append((trap, version))
    return found
