"""Statistics of two sets of pictures -> numbers with protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.metrics import Metric
from open_ldm.evaluation.protocol import MeasurementProtocol, Result, build_protocol
from open_ldm.evaluation.statistics import Statistics


@dataclass(frozen=True)
class Measured:
    """`results`, and for each metric that refused (too few pictures, say) its protocol and the reason in one line."""

    results: tuple[Result, ...]
    refused: Mapping[str, str]


def measure(
    metrics: Sequence[Metric],
    samples: Statistics,
    reference: Statistics | None = None,
    *,
    sampling: Mapping[str, str] | None = None,
    bootstrap: BootstrapConfig | None = None,
) -> Measured:
    """Every metric of `metrics` on the same statistics. One that refuses does not cost the others their pass."""
    bootstrap = bootstrap or BootstrapConfig()
    results: list[Result] = []
    refused: dict[str, str] = {}
    for metric in metrics:
        try:
            if metric.needs_reference and reference is None:
                raise ConfigError(f"{metric.protocol} needs a reference", fix="give the data it is measured against")
            estimates = metric.measure(samples, samples if reference is None else reference, bootstrap)
        except OpenLdmError as error:
            refused[metric.protocol] = error.one_line()
            continue
        protocol = _protocol_of(metric, samples, reference, bootstrap, sampling)
        results += [Result(estimate, protocol) for estimate in estimates]
    return Measured(tuple(results), refused)


def _protocol_of(
    metric: Metric,
    samples: Statistics,
    reference: Statistics | None,
    bootstrap: BootstrapConfig,
    sampling: Mapping[str, str] | None,
) -> MeasurementProtocol:
    against = {}
    if metric.needs_reference and reference is not None:
        against = {"reference": reference.pictures.hash, "reference_n": _count(reference)}
    size = samples.pictures.size_px
    return build_protocol(metric.protocol, samples.extractor, size, _count(samples), bootstrap, sampling=sampling, **against)


def _count(found: Statistics) -> str:
    """How many pictures, and how many of them one by one where the bank could not hold all."""
    single = len(found.rows)
    return str(found.pictures.count) if single == found.pictures.count else f"{found.pictures.count} ({single} singly)"
