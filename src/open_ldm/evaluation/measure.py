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
    """`results`, and the reason in one line for each metric that raised (too few pictures, say), by its protocol name."""

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
    """Compute every metric from the same statistics; a metric that raises is reported and does not stop the others.

    Args:
        metrics: What to compute.
        samples: Statistics of the pictures to measure.
        reference: Statistics of the data, for metrics that compare.
        sampling: How the pictures were sampled, in words, for the protocols.
        bootstrap: Settings of the intervals.

    Returns:
        The results, and the reason in one line for each metric that could not be computed.
    """
    bootstrap = bootstrap or BootstrapConfig()
    results: list[Result] = []
    refused: dict[str, str] = {}
    for metric in metrics:
        try:
            if metric.needs_reference and reference is None:
                raise ConfigError(
                    f"{metric.protocol} needs a reference", fix="pass the data that the samples are compared with"
                )
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


def _count(statistics: Statistics) -> str:
    """How many pictures, and how many of them one by one where the bank could not hold all."""
    single = len(statistics.rows)
    return (
        str(statistics.pictures.count)
        if single == statistics.pictures.count
        else f"{statistics.pictures.count} ({single} singly)"
    )
