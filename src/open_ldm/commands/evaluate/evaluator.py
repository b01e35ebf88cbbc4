"""One evaluation: one pass over the pictures for all metrics, then what needs pictures of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from open_ldm.checkpoints.names import run_folder_of
from open_ldm.commands.evaluate.coarse import measure_coarse_change
from open_ldm.commands.evaluate.collector import Collector
from open_ldm.commands.evaluate.config import (
    CoarseChangeMetric,
    ContentChangeMetric,
    ControlEffectMetric,
    CutShapesMetric,
    EvaluationConfig,
    HeldOutMetric,
    InfluenceMetric,
    LPIPSMetric,
    NeighboursMetric,
    OwnMetric,
    with_spatial,
)
from open_ldm.commands.evaluate.content import Change, measure_content_change
from open_ldm.commands.evaluate.controlled import ControlledSamples, Effect
from open_ldm.commands.evaluate.cut_shapes import measure_cut_shapes
from open_ldm.commands.evaluate.effect import measure_control_effect
from open_ldm.commands.evaluate.found import Evaluation
from open_ldm.commands.evaluate.influence import measure_influence
from open_ldm.commands.evaluate.lpips import measure_lpips
from open_ldm.commands.evaluate.neighbours import NeighbourReport, report_neighbours, write_sheet
from open_ldm.commands.evaluate.parts import PartCollected, Parts
from open_ldm.commands.evaluate.pictures import GivenPictures, SampledPictures
from open_ldm.commands.evaluate.reference import reference_statistics
from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError, OpenLdmError, StoppedError
from open_ldm.core.events import Progress
from open_ldm.core.signals import StopRequest
from open_ldm.data.sample import Source
from open_ldm.evaluation.features import FeatureConfig, FeatureExtractor, build_extractor
from open_ldm.evaluation.features.inception import SPATIAL
from open_ldm.evaluation.measure import Measured, measure
from open_ldm.evaluation.metrics import Metric, SFIDConfig
from open_ldm.evaluation.own_features import FIT, FOLDER, OwnFeatures, own_features
from open_ldm.evaluation.protocol import Result
from open_ldm.evaluation.statistics import Statistics
from open_ldm.evaluation.stored import store
from open_ldm.runs.encoders import Encoders
from open_ldm.runs.held_out import HeldOutPictures
from open_ldm.sources.loader import open_data

_WITHOUT_EXTRACTOR = (HeldOutMetric, ContentChangeMetric, CoarseChangeMetric, ControlEffectMetric, CutShapesMetric)
"""What can be measured where no extractor is given."""
NO_EXTRACTOR = "--extractor FOLDER of `ldm evaluate fit-features DATA --out FOLDER`, or the file of Inception's weights"


@dataclass
class Evaluator:
    """One evaluation: its settings, and what it has measured so far."""

    pictures: SampledPictures | GivenPictures
    data: Source | None
    config: EvaluationConfig
    machine: Machine
    world: World
    cache: Path | None
    silent: bool
    stop: StopRequest
    parts: Parts = field(default_factory=lambda: Parts(None))
    results: list[Result] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    influence: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    neighbours: NeighbourReport | None = None
    controlled: ControlledSamples | None = None

    def evaluate(self, given: Path) -> Evaluation:
        """Compute every metric; one that raises is listed with its reason and does not stop the others."""
        config = self.config
        plain: list[Any] = [metric for metric in config.metrics if not isinstance(metric, OwnMetric)]
        needed = any(not isinstance(one, _WITHOUT_EXTRACTOR) for one in config.metrics)
        extractors = self._extractors() if needed or (config.extractors and not self._held_out_alone()) else []
        if any(metric.needs_reference for metric in plain) or config.of_kind(NeighboursMetric):
            self._against()  # it must be there before an hour is spent on sampling
        if plain or config.of_kind(NeighboursMetric):
            samples = self.collector.samples(extractors)
            if plain:
                self._measure(plain, samples, extractors)
            for metric in config.of_kind(NeighboursMetric):
                self._refusable("neighbours", lambda metric=metric: self._neighbours(metric, samples[0], extractors[0]))
        own: dict[type[Any], Callable[[Any], None]] = {
            LPIPSMetric: lambda metric: self._lpips(metric, extractors),
            InfluenceMetric: lambda metric: self._influence(metric, extractors),
            ContentChangeMetric: lambda metric: self._change(metric, "content", measure_content_change, extractors),
            CoarseChangeMetric: lambda metric: self._change(metric, "coarse pictures", measure_coarse_change),
            CutShapesMetric: self._cut_shapes,
            ControlEffectMetric: lambda metric: self._change(
                metric, "effect", measure_control_effect, self._against(), extractors
            ),
            HeldOutMetric: self._held_out,
        }
        for kind, work in own.items():
            for metric in config.of_kind(kind):
                self._refusable(metric.kind, lambda work=work, metric=metric: work(metric))
        self.stop.raise_if_requested()
        return self.found(given)

    def found(self, given: Path) -> Evaluation:
        """Return what was measured so far."""
        seen = self.pictures.run.samples_seen if isinstance(self.pictures, SampledPictures) else None
        return Evaluation(
            given, seen, tuple(self.results), self.refused, self.influence, self.held_out, self.neighbours, more=self.details
        )

    def written(self, found: Evaluation, folder: Path) -> Evaluation:
        """The same, with evaluation.json and the sheet of neighbours in `folder`."""
        sheet = None
        for metric in self.config.of_kind(NeighboursMetric):
            if found.neighbours is not None:
                sheet = write_sheet(found.neighbours, self.pictures, self._training(), metric.shown, folder)
        file = store(folder, found.results, found.samples_seen, found.refused, found.details())
        return replace(found, file=file, sheet=sheet)

    def _held_out_alone(self) -> bool:
        return all(isinstance(one, HeldOutMetric) for one in self.config.metrics)

    def _extractors(self) -> list[FeatureExtractor]:
        given = with_spatial(self.config) if self.config.extractors else [self._own_features()]
        return [build_extractor(one, self.machine.device) for one in given]

    def _own_features(self) -> FeatureConfig:
        """Those of a run that names none: of a classifier in its folder, fitted on its training pictures where it is not there.

        The leading process fits; an interrupted fit goes on with the same command.
        """
        if not isinstance(self.pictures, SampledPictures):
            raise ConfigError("no feature extractor was given", needed="an extractor for these metrics", fix=NO_EXTRACTOR)
        folder, source = run_folder_of(self.pictures.run.path) / FOLDER, open_data(self.pictures.run.recipe.data)

        def fitted() -> OwnFeatures:
            """Take or fit the features."""
            with Progress(FIT.pictures, label="fit features", unit="pictures", silent=self.silent) as progress:

                def shown(count: int, loss: float) -> None:
                    progress.update(count, loss=loss)
                    self.stop.raise_if_requested()

                return own_features(source, folder, device=self.machine.device, on_batch=shown, config=FIT)

        found = self.world.everyone(fitted, "the features of its own data")
        if self.world.leads:
            print(f"note: no --extractor was given: {found.sentence}", file=sys.stderr)
        return found.config

    def collect_part(self) -> PartCollected:
        """Collect this task's share of the pictures, and keep it. Errors as `evaluate`."""
        return self.collector.part(self._extractors())

    @cached_property
    def collector(self) -> Collector:
        """Collects the pictures, or joins what tasks collected."""
        return Collector(self.pictures, self.parts, self.world, self._watched, self.stop, self.silent)

    def _measure(
        self, metrics: Sequence[Metric], samples: Sequence[Statistics], extractors: Sequence[FeatureExtractor]
    ) -> None:
        references: Sequence[Statistics | None] = [None] * len(samples)
        if any(metric.needs_reference for metric in metrics):
            references = self._reference(self._against(), extractors, self.config.against_n, "reference")
        suited = [[one for one in metrics if isinstance(one, SFIDConfig) or seen.extractor.name != SPATIAL] for seen in samples]

        def measured() -> list[Measured]:
            how: dict[str, Any] = {"sampling": self.pictures.sampling, "bootstrap": self.config.bootstrap}
            three = zip(suited, samples, references, strict=True)
            return [measure(chosen, seen, reference, **how) for chosen, seen, reference in three]

        refused: dict[str, list[str]] = {}
        for chosen, found in zip(suited, self.world.everyone(measured, "the metrics"), strict=True):
            for metric in metrics:
                if metric not in chosen:
                    refused.setdefault(metric.protocol, []).append(f"{metric.protocol}: {SPATIAL} is for sfid alone")
            self.results += found.results
            for protocol, reason in found.refused.items():
                refused.setdefault(protocol, []).append(reason)
        # With several extractors a metric counts as refused only where none of them could give it.
        self.refused |= {protocol: reasons[0] for protocol, reasons in refused.items() if len(reasons) == len(samples)}

    def _against(self) -> Source:
        if self.data is None:
            raise ConfigError(
                "no data to compare with was given", needed="the data of a run, or --against", fix="--against DATA"
            )
        return self.data

    def _reference(
        self, source: Source, extractors: Sequence[FeatureExtractor], count: int | None, label: str
    ) -> tuple[Statistics, ...]:
        length = min(len(source), count or len(source))
        settings: dict[str, Any] = {"unit": "pictures", "silent": self.silent}
        with (
            Progress(self._share(length), label=f"compare {label} with what is kept:", **settings) as compared,
            Progress(self._share(length), label=label, **settings) as progress,
        ):
            return reference_statistics(
                source,
                self.pictures.size_px,
                extractors,
                count=count,
                cache=self.cache,
                world=self.world,
                on_pictures=self._watched(progress),
                on_compared=compared.update,
            )

    def _neighbours(self, metric: NeighboursMetric, samples: Statistics, extractor: FeatureExtractor) -> None:
        (training,) = self._reference(self._training(), [extractor], None, "training")
        held_out = None
        if isinstance(self.pictures, SampledPictures) and self.pictures.run.recipe.data.holdout is not None:
            source = open_data(self.pictures.run.recipe.data, "held_out")
            (held_out,) = self._reference(source, [extractor], len(self.pictures), "held out")
        sampling = None if self.pictures.sampling is None else dict(self.pictures.sampling)
        report = self.world.everyone(
            lambda: report_neighbours(samples, training, held_out, metric, self.config.bootstrap, sampling), "neighbours"
        )
        self.results += [one for one in (report.result, report.held_out) if one is not None]
        self.neighbours = report

    def _training(self) -> Source:
        """What the run was trained on; of pictures without a run, the data they are measured against."""
        return open_data(self.pictures.run.recipe.data) if isinstance(self.pictures, SampledPictures) else self._against()

    def _influence(self, metric: InfluenceMetric, extractors: Sequence[FeatureExtractor]) -> None:
        with self._under_controls(metric, "controls") as (samples, how):
            found = measure_influence(samples.pictures, metric, extractors, self.config.bootstrap, samples=samples, **how)
        self.results += found.results
        self.influence |= found.table

    def _change(self, metric: Any, label: str, measured: Callable[..., Change | Effect], *given: Any) -> None:
        with self._under_controls(metric, label) as (samples, how):
            found = measured(samples, metric, *given, self.config.bootstrap, **how)
        self.results += found.results
        self.details.setdefault(metric.kind, {}).update(found.details)

    def _cut_shapes(self, metric: CutShapesMetric) -> None:
        otherwise = "cut_shapes compares samples with the views of their training, which stored pictures do not tell"
        with self._per_seed(metric, "cut shapes", otherwise) as (sampled, how):
            self.results += measure_cut_shapes(sampled, metric, self._training(), self.config.bootstrap, **how)

    @contextmanager
    def _under_controls(self, metric: Any, label: str) -> Iterator[tuple[ControlledSamples, dict[str, Any]]]:
        """Give the samples under values of a control and how they are shared and watched, with progress over the seeds."""
        otherwise = f"{metric.kind} needs pictures under several controls, which stored pictures cannot give"
        with self._per_seed(metric, label, otherwise) as (sampled, how):
            self.controlled = self.controlled or ControlledSamples(sampled)
            yield self.controlled, how

    @contextmanager
    def _per_seed(self, metric: Any, label: str, otherwise: str) -> Iterator[tuple[SampledPictures, dict[str, Any]]]:
        """Give the run's samples, or raise `otherwise`; and how they are shared and watched, with progress over the seeds."""
        sampled = self._sampled(otherwise)
        total = self._share(min(metric.pictures, len(sampled)))
        with Progress(total, label=label, unit="seeds", silent=self.silent) as progress:
            yield sampled, {"world": self.world, "on_seeds": self._watched(progress)}

    def _lpips(self, metric: LPIPSMetric, extractors: Sequence[FeatureExtractor]) -> None:
        otherwise = "lpips needs pictures of other noise, which stored pictures cannot give"
        with self._per_seed(metric, "pairs", otherwise) as (sampled, how):
            self.results.append(measure_lpips(sampled, metric, extractors, self.config.bootstrap, **how))

    def _held_out(self, metric: HeldOutMetric) -> None:
        run = self._sampled("held_out_loss measures a model, and only pictures were given").run
        encoders = Encoders(run.generator.autoencoder, run.text_encoder, run.machine)
        pictures = HeldOutPictures(run.recipe, run.known, encoders, metric.pictures, self.world)
        found = pictures.loss(run.model, self.config.bootstrap, kind=metric.prediction)
        self.results.append(pictures.result(found, self.config.bootstrap))
        self.held_out |= found.to_json()

    def _sampled(self, otherwise: str) -> SampledPictures:
        """The pictures, which must be sampled from a run."""
        if not isinstance(self.pictures, SampledPictures):
            raise ConfigError(otherwise, needed="a run folder")
        return self.pictures

    def _refusable(self, name: str, work: Any) -> None:
        self.stop.raise_if_requested()
        reason = ""
        try:
            work()
        except StoppedError:
            raise
        except OpenLdmError as error:
            if error.of_all:
                raise
            reason = error.one_line()
        self.world.agreed(f"whether {name} can be measured", reason or "yes", DataError)
        if reason:
            self.refused[name] = reason

    def _watched(self, progress: Progress) -> Callable[[int], None]:
        """Report progress; raises StoppedError once a signal has come."""

        def update(done: int) -> None:
            progress.update(done)
            self.stop.raise_if_requested()

        return update

    def _share(self, count: int) -> int:
        """About as many as this process sees."""
        return -(-count // self.world.size)
