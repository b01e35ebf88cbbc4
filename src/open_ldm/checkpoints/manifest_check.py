"""What a manifest says, checked before it is believed: of another version, or edited, it may be whole and yet make no sense."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from open_ldm.core.errors import CheckpointError, OpenLdmError, cut
from open_ldm.core.events import MOST_SAMPLES
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.spec import DataFacts

COUNTERS = ("samples_seen", "updates", "skipped", "skipped_in_row", "rollbacks", "loss_scale", "updates_at_scale")
"""The counters of a run (training/state.py)."""


def check_manifest(content: Mapping[str, Any], name: str, samples_seen: int | None, required: Collection[str]) -> None:
    """Check the entries of a manifest that are there.

    Args:
        content: The manifest, its own hash verified.
        name: Of the checkpoint, for the error.
        samples_seen: As its name states them; None for a folder of another name.
        required: Entries that it has, as for `load_checkpoint`; a run that goes on from its counters needs a fingerprint.

    Raises:
        CheckpointError: An entry is not what this version writes; the error names it.
    """
    checks: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "samples_seen": lambda content: _samples_seen(content, samples_seen),
        "recipe": lambda content: "" if isinstance(content["recipe"], dict) else "is no mapping",
        "counters": _counters,
        "fingerprint": _fingerprint,
        "facts": _facts,
        "latent_stats": _stats,
    }
    needed = {*required, "samples_seen", *(["fingerprint"] if "counters" in required else [])}
    for entry, problem_of in checks.items():
        if entry in content or entry in needed:
            problem = problem_of(content) if entry in content else "is missing"
            if problem:
                raise CheckpointError(f"{name}: {entry} in its manifest {problem}", needed="a manifest of this version")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_SAMPLES


def _samples_seen(content: Mapping[str, Any], named: int | None) -> str:
    given = content["samples_seen"]
    if not _is_count(given):
        return f"is {cut(repr(given))}"
    return "" if named in (None, given) else f"is {given:,}, and its name says {named:,}"


def _counters(content: Mapping[str, Any]) -> str:
    counters = content["counters"]
    if not isinstance(counters, dict) or "samples_seen" not in counters:
        return "has no samples_seen"
    for name, value in counters.items():
        if name not in COUNTERS:
            return f"has an unknown counter {cut(repr(name))}"
        if not _is_count(value):
            return f"says {name}={cut(repr(value))}"
    training = content["recipe"].get("training") if isinstance(content.get("recipe"), dict) else None
    samples, batch_size = (training.get(name) for name in ("samples", "batch_size")) if isinstance(training, dict) else (0, 0)
    if not isinstance(samples, int) or not isinstance(batch_size, int) or samples <= 0:
        return ""  # of no training that is known here, so nothing is told of it
    if counters["samples_seen"] != content["samples_seen"]:
        return f"says samples_seen={counters['samples_seen']:,}, and the checkpoint {content['samples_seen']:,}"
    possible = counters["samples_seen"] < samples + batch_size
    return "" if possible else f"says samples_seen={counters['samples_seen']:,} of {samples:,}"


def _fingerprint(content: Mapping[str, Any]) -> str:
    given = content["fingerprint"]
    texts = isinstance(given, dict) and all(isinstance(value, str) for value in given.values())
    return "" if texts else "is no mapping of texts"


def _facts(content: Mapping[str, Any]) -> str:
    try:
        facts = TypeAdapter(DataFacts).validate_json(json.dumps(content["facts"]), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return f"does not fit ({cut(where)}: {first['msg'][:60]})"
    sizes = (facts.channels, *facts.latent_size, facts.view.height_px, facts.view.width_px, facts.view.typical_original_px)
    return "" if min(sizes) >= 1 and max(sizes) <= _MOST_SIDE else "has a size that no picture has"


_MOST_SIDE = 2**31 - 1


def _stats(content: Mapping[str, Any]) -> str:
    try:
        known = Knowledge.from_json(content)
    except OpenLdmError as error:
        return f"cannot be used ({cut(error.problem, 100)})"
    channels, given = known.facts.channels, len(known.stats.mean)
    return "" if given == channels else f"is of {given} channels, and the latents have {channels}"
