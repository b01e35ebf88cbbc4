"""Defaults change, stored recipes do not: a resolved recipe is read with every default of the day it was written.

A resolved recipe (config.yaml of a run, the manifest of a checkpoint) carries `recipe_schema`. One without it was written
before there was a number, and lacks the settings that came later: they are filled in here with what the code did then.

    schema    what changed
    1         no number was written; gates read the bare t
    2         gates have a `clock`, by default the noise level
    3         `data.order` may be windowed, by default for more than a million samples

What a recipe leaves to the machine (`device`, `dtype`, `compile`, `micro_batch_size`: `auto`) is no number of it. It is settled
when a run begins and stays with that run; a new run of a stored recipe takes what `auto` means by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from open_ldm.conditioning import ConditioningConfig
from open_ldm.core.config import parse_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.sources.loader import DataConfig

SCHEMA: Literal[3] = 3
_RESOLVED = frozenset({"init_from", "stages", "autoencoder", "latent_stats", "process", "objective", "sampling", "preview"})
"""Settings that a resolved recipe always spells out, and no one writes all of by hand."""


def of_its_day(content: Mapping[str, Any]) -> dict[str, Any]:
    """Read a resolved recipe of an earlier schema with the defaults of its day; anything else is returned as it is.

    Args:
        content: Plain data of a recipe, resolved or not.

    Returns:
        Plain data in which every later setting has the value that means what the code did then.
    """
    whole = dict(content)
    written = whole.get("recipe_schema", 1 if whole.keys() >= _RESOLVED else SCHEMA)
    if written not in range(1, SCHEMA):
        return whole
    whole["recipe_schema"] = SCHEMA
    if isinstance(data := whole.get("data"), Mapping):
        whole["data"] = {"order": {"kind": "global"}, **data}
    if written >= 2:
        return whole
    if isinstance(stages := whole["stages"], list | tuple):
        whole["stages"] = [_gates_by_time(stage) for stage in stages]
    return dict(_gates_by_time(whole))


def without_later_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """Remove from plain data, in place, the settings of later schemas that mean what the code did before: hashes stay equal."""
    content.pop("recipe_schema", None)
    if content["data"].get("order") == {"kind": "global"}:
        del content["data"]["order"]
    for control in content["conditioning"]["controls"]:
        if control["gate"].get("clock") == "time":
            del control["gate"]["clock"]
    return content


def begun_order(now: DataConfig, before: DataConfig) -> DataConfig:
    """Give the data of a run that goes on the order that it began with, where the recipe leaves that open."""
    return now if now.order is not None else now.model_copy(update={"order": before.order})


def begun_clocks(now: ConditioningConfig, before: ConditioningConfig) -> ConditioningConfig:
    """Give the gates of a run that goes on the clocks that it began with, where nothing else of a control differs."""
    begun = {control.kind: control for control in before.controls}
    controls = [begun.get(one.kind, one) if _but_clock(one) == _but_clock(begun.get(one.kind)) else one for one in now.controls]
    return now.model_copy(update={"controls": tuple(controls)})


GOES_ON_BY_TIME = "this run was begun before gates had a clock and goes on with clock: time; another --out takes noise_level"


def changed_meanings(content: Mapping[str, Any], overrides: Sequence[str] = ()) -> list[str]:
    """Say, one line for each, which settings of a user's own recipe mean something else than under an earlier schema.

    Args:
        content: The recipe as written, not yet resolved.
        overrides: Assignments `a.b=c` given with it.
    """
    if "recipe_schema" in content or content.keys() >= _RESOLVED:
        return []
    controls = _controls(content)
    named = [str(control.get("column", control.get("kind"))) for control in controls if _names_alpha_alone(control.get("gate"))]
    for override in overrides:
        key, _, value = override.partition("=")
        try:
            gate = parse_yaml(value, key) if key.endswith(".gate") else {}
        except ConfigError:
            continue  # reading the override reports it
        if _names_alpha_alone(gate):
            named.append(key.split(".")[-2])
    return [
        f"the gate of {name} names alpha without clock: alpha is now stated on the noise level (clock: noise_level), once on t;"
        " clock: time keeps the old meaning"
        for name in dict.fromkeys(named)
    ]


def _names_alpha_alone(gate: Any) -> bool:
    return isinstance(gate, Mapping) and "alpha" in gate and "clock" not in gate


def _controls(content: Any) -> list[Any]:
    conditioning = content.get("conditioning") if isinstance(content, Mapping) else None
    controls = conditioning.get("controls") if isinstance(conditioning, Mapping) else None
    return [one for one in controls if isinstance(one, Mapping)] if isinstance(controls, list | tuple) else []


def _gates_by_time(content: Any) -> Any:
    """The same settings in which every gate that changes reads t; a size control without a gate had the one of its day."""
    if not (controls := _controls(content)):
        return content
    ours: list[dict[str, Any]] = []
    for control in controls:
        gate = control.get("gate", {"kind": "power_cosine", "alpha": 8.0} if control.get("kind") == "original_size" else None)
        changes = isinstance(gate, Mapping) and gate.get("kind") != "constant"
        ours.append({**control, "gate": {"clock": "time", **gate}} if changes else dict(control))
    return {**content, "conditioning": {**content["conditioning"], "controls": ours}}


def _but_clock(control: Any) -> Any:
    return None if control is None else control.model_dump(exclude={"gate": {"clock"}})
