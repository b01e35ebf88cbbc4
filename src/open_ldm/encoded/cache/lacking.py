"""The error of a section that must be there and is not: where one is there that differs in precision alone, it says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_ldm.core.errors import DataError
from open_ldm.core.plain_data import parse_json, plain

_COMPUTED, _STORED = "computed_in", "dtype"
_BEING_SO = {"float32": "training.dtype=float32 or training.device=cpu", "bfloat16": "training.dtype=bf16 on an accelerator"}


def lacking(cache: Path, folder: str, plan: Mapping[str, Any]) -> DataError:
    """Return the error of a section that a cache lacks where there is nothing to make it of.

    Args:
        cache: The folder of the cache.
        folder: Name of the section's folder.
        plan: The fields of its `SectionPlan`.
    """
    wanted = plain(plan)
    differing = min(filter(None, (_differing(file, wanted) for file in cache.glob("*/section.json"))), key=len, default=None)
    encode = "ldm encode with these settings where the pictures are"
    if differing is None:
        return DataError(
            f"cache {cache} has no section {folder}, which these settings need, and no pictures to make it of",
            fix=f"{encode}, or settings that were encoded",
        )
    what = "tokens" if wanted["kind"] == "text" else str(wanted["kind"])
    said, fixes = [], []
    if _COMPUTED in differing:  # of text alone
        stored, here = differing[_COMPUTED], wanted["made_from"][_COMPUTED]
        said.append(
            f"captions in cache {cache} were encoded in {stored}, and this device and training.dtype encode them in {here}"
        )
        fixes.append(_BEING_SO.get(stored, f"a device that computes in {stored}"))
    if _STORED in differing:
        stored, asked = differing[_STORED], wanted["made_from"][_STORED]
        said.append(f"{what} in cache {cache} are stored as {stored}, not as cache.{what}={asked} asks")
        fixes.append(f"cache.{what}={stored}")
    return DataError("; ".join(said), needed=f"section {folder}", fix=f"{' and '.join(fixes)}, or {encode}")


def _differing(file: Path, wanted: Mapping[str, Any]) -> dict[str, str]:
    """By name, the entries of precision of another section that differ; empty where anything else differs too."""
    try:
        there = parse_json(file.read_text(encoding="utf-8"))
        before, now = there["made_from"], wanted["made_from"]
        if any(there[name] != wanted[name] for name in wanted if name != "made_from") or before.keys() != now.keys():
            return {}
        differing = {name: str(before[name]) for name in now if before[name] != now[name]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return differing if differing.keys() <= {_COMPUTED, _STORED} else {}
