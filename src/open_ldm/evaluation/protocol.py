"""Numbers with a protocol: what was measured, how, and on what; only numbers of equal protocols are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, difference_of
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.sampling.generate import SamplingConfig

NOTHING = "none"
_MEMORY_ONLY = {"batch_size"}
_ASSUMED = {"sampling.labels": "at random"}
"""What protocols of before an entry existed were measured by. An entry of this value is shown, and is no part of the id."""
_TOLD_ALONE = {"sampling.latents"}
"""What describes the model rather than the measurement: shown, but neither part of the id nor compared."""


@dataclass(frozen=True)
class MeasurementProtocol:
    """Everything that decides a number, except the measured pictures: name -> value, both in words.

    metric · extractor.name, .weights, .resize, .rounding · size_px · n · reference (hash of the set), reference_n · interval ·
    sampling.* (seeds, solver, steps, scales, how labels were drawn; and of which latents the model was trained).
    """

    entries: Mapping[str, str]

    @property
    def id(self) -> str:
        """Short name of the protocol: 12 hexadecimal digits of a hash of the entries."""
        named = {name: value for name, value in self.entries.items() if name not in _TOLD_ALONE and _ASSUMED.get(name) != value}
        content = json.dumps(dict(sorted(named.items())))
        return hashlib.blake2b(content.encode(), digest_size=6).hexdigest()

    def differences(self, other: MeasurementProtocol, varied: Collection[str] = ()) -> list[str]:
        """'n: 1000 against 5000' for every entry that differs, except those named in `varied` (whole names, or groups such
        as 'sampling')."""
        found = []
        for name in sorted({**self.entries, **other.entries}):
            one, two = (each.entries.get(name, _ASSUMED.get(name, NOTHING)) for each in (self, other))
            if name not in _TOLD_ALONE and one != two and name not in varied and name.split(".")[0] not in varied:
                found.append(f"{name}: {one} against {two}")
        return found


@dataclass(frozen=True)
class Result:
    """A measured number with its interval and its protocol."""

    estimate: Estimate
    protocol: MeasurementProtocol

    def __str__(self) -> str:
        one = self.estimate
        return f"{one.name} {one.value:.4g} [{one.low:.4g}, {one.high:.4g}], n = {one.count:,}, protocol {self.protocol.id}"

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` reads it back."""
        one = self.estimate
        return {
            "name": one.name,
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "count": one.count,
            "warnings": list(one.warnings),
            "protocol": self.protocol.id,
            "passport": dict(self.protocol.entries),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """The inverse of `to_json`. Raises ConfigError when the protocol was changed or parts are missing."""
        try:
            estimate = Estimate(
                content["name"], content["value"], content["low"], content["high"], content["count"], tuple(content["warnings"])
            )
            protocol, stated = MeasurementProtocol(dict(content["passport"])), content["protocol"]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a stored result: {error!r}", fix="measure again") from error
        if protocol.id != stated:
            raise ConfigError(
                f"the stored protocol entries of {estimate.name} do not hash to its protocol id {stated}", fix="measure again"
            )
        return cls(estimate, protocol)


@dataclass(frozen=True)
class Difference:
    """other - one, with the interval of the difference of two independent values."""

    name: str
    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """The interval does not hold 0."""
        return self.low > 0 or self.high < 0


def compare(one: Result, other: Result, varied: Collection[str] = ()) -> Difference:
    """Return other - one, with its interval.

    The interval holds for independent values. With equal seeds the two are not independent, and the interval is then usually
    too wide rather than too narrow.

    Args:
        one: The first number.
        other: The second number, of the same metric.
        varied: Protocol entries that may differ, by whole name or by group such as 'sampling'.

    Raises:
        ConfigError: The protocols differ in anything else; the message names what differs.
    """
    apart = one.protocol.differences(other.protocol, varied)
    if one.estimate.name != other.estimate.name:
        apart.insert(0, f"{one.estimate.name} against {other.estimate.name}")
    if apart:
        raise ConfigError(
            f"{one.estimate.name} of protocols {one.protocol.id} and {other.protocol.id} is not comparable: {'; '.join(apart)}",
            fix="measure both with the same settings",
        )
    return Difference(one.estimate.name, *difference_of(other.estimate, one.estimate))


def build_protocol(
    metric: str,
    extractor: ExtractorId,
    size_px: tuple[int, int],
    n: str,
    interval: BootstrapConfig,
    *,
    reference: str = NOTHING,
    reference_n: str = NOTHING,
    sampling: Mapping[str, str] | None = None,
) -> MeasurementProtocol:
    """The protocol of one number. `sampling`: from `sampling_of`; none for pictures that were just there."""
    entries = {
        "metric": metric,
        **{f"extractor.{name}": value for name, value in extractor.to_json().items()},
        "size_px": f"{size_px[0]}x{size_px[1]}",
        "n": n,
        "reference": reference,
        "reference_n": reference_n,
        "interval": interval.words,
        **{f"sampling.{name}": value for name, value in (sampling or {}).items()},
    }
    return MeasurementProtocol(entries)


def sampling_of(config: SamplingConfig, picture_seeds: Sequence[int]) -> dict[str, str]:
    """Describe how pictures were sampled, in words, for a protocol: seeds, solver, steps, guidance with its scales."""
    settings = config.model_dump(mode="json", exclude=_MEMORY_ONLY)
    return {"seeds": seeds_in_words(picture_seeds), **_flat(settings)}


def seeds_in_words(picture_seeds: Sequence[int]) -> str:
    """'0..9999' for consecutive seeds, else their number and a hash; the order does not matter."""
    ordered = sorted(picture_seeds)
    if not ordered:
        return NOTHING
    if ordered == list(range(ordered[0], ordered[0] + len(ordered))):
        return f"{ordered[0]}..{ordered[-1]}"
    return f"{len(ordered)} seeds, hash {hashlib.blake2b(repr(ordered).encode(), digest_size=6).hexdigest()}"


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = json.dumps(value)
    return found
