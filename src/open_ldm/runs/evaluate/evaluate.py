"""Evaluate a run, or pictures that are there: one pass over the pictures for all metrics, results with passports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from open_ldm.core.device import DeviceName, Machine, choose_machine
from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import ConfigError, DataError, OpenLdmError, StoppedError
from open_ldm.core.events import Progress
from open_ldm.data.holdout import PartName
from open_ldm.data.loader import DataConfig, open_data
from open_ldm.data.sample import Source
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features import FeatureConfig, FeatureExtractor, build_extractor
from open_ldm.evaluation.measure import Measured, measure
from open_ldm.evaluation.metrics import Metric
from open_ldm.evaluation.passport import Result
from open_ldm.evaluation.statistics import Statistics, collect
from open_ldm.runs.assemble import Encoders
from open_ldm.runs.evaluate.config import EvaluationConfig, HeldOutMetric, InfluenceMetric, NeighboursMetric
from open_ldm.runs.evaluate.influence import measure_influence
from open_ldm.runs.evaluate.neighbours import NeighbourReport, report_neighbours, write_sheet
from open_ldm.runs.evaluate.pictures import DrawnPictures, GivenPictures, open_judged, run_folder_of
from open_ldm.runs.evaluate.reference import CACHE, counted, open_against, reference_statistics
from open_ldm.runs.evaluate.store import store
from open_ldm.runs.held_out import HeldOutPictures, levels_of
from open_ldm.training.signals import StopRequest

DEFAULT_METRICS = ("fid", "kid", "precision_recall", "density_coverage")
NO_EXTRACTOR = "--extractor FOLDER of `ldm evaluate fit-features DATA --out FOLDER`, or the file of Inception's weights"


@dataclass(frozen=True)
class Evaluation:
    """What was found. `refused`: protocol -> reason; `influence`: 'a|b' -> mean distance of two control values;
    `held_out`: the loss by noise level; `file`: the evaluation.json it was written to, and `sheet` the picture of nearest
    neighbours, where there are such."""

    given: Path
    samples_seen: int | None
    results: tuple[Result, ...]
    refused: Mapping[str, str]
    influence: Mapping[str, float] = field(default_factory=dict)
    held_out: Mapping[str, Any] = field(default_factory=dict)
    neighbours: NeighbourReport | None = None
    file: Path | None = None
    sheet: Path | None = None

    @property
    def measured(self) -> Measured:
        """Results and refusals as `measure` gives them."""
        return Measured(self.results, self.refused)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "given": str(self.given),
            "samples_seen": self.samples_seen,
            "results": [result.to_json() for result in self.results],
            "refused": dict(self.refused),
            **self.details(),
            "file": None if self.file is None else str(self.file),
            "sheet": None if self.sheet is None else str(self.sheet),
        }

    def details(self) -> dict[str, Any]:
        """What is not a number with a passport."""
        found: dict[str, Any] = {"influence": dict(self.influence)} if self.influence else {}
        found |= {"held_out": dict(self.held_out)} if self.held_out else {}
        return found | ({} if self.neighbours is None else {"neighbours": self.neighbours.to_json()})


def evaluate_run(
    given: Path,
    against: DataConfig | str | Path | None,
    metrics: Sequence[str | Mapping[str, Any]],
    *,
    extractors: Sequence[FeatureConfig] = (),
    n: int = 1000,
    seed: int = 0,
    against_n: int | None = 10_000,
    sampling: Mapping[str, Any] | None = None,
    controls: Mapping[str, str] | None = None,
    bootstrap: BootstrapConfig | None = None,
    part: PartName = "train",
    out: Path | None = None,
    cache: Path | None = CACHE,
    device: DeviceName = "auto",
    silent: bool = True,
) -> Evaluation:
    """Measure a run (or checkpoint), drawing `n` pictures, or a folder or shards of pictures.

    `against`: as `open_against`; None is the run's own data. `metrics`: kinds, or mappings with `kind` and settings.
    `sampling`: changes to the run's settings, nested as in a recipe. The rest as in `evaluate` and `EvaluationConfig`.
    """
    config = EvaluationConfig(
        metrics=metrics,  # type: ignore[arg-type]  # names become configs
        extractors=tuple(extractors),
        n=n,
        seed=seed,
        against_n=against_n,
        sampling=dict(sampling or {}),
        controls=dict(controls or {}),
        bootstrap=bootstrap or BootstrapConfig(),
    )
    return evaluate(given, against, config, part=part, out=out, cache=cache, device=device, silent=silent)


def evaluate(
    given: Path,
    against: DataConfig | str | Path | None,
    config: EvaluationConfig,
    *,
    part: PartName = "train",
    out: Path | None = None,
    cache: Path | None = CACHE,
    device: DeviceName = "auto",
    silent: bool = False,
) -> Evaluation:
    """All of `config.metrics`. Results go to evaluation.json in the run folder, or in `out`; for pictures only in `out`.

    `part`: of data with a holdout. Under torchrun the processes share the pictures. Raises ConfigError for what cannot be
    opened, DataError for pictures of no use or where no metric gave a number, StoppedError on a stop signal, with what is kept.
    """
    machine = choose_machine(device)
    world = join_world(machine.device)
    data = None if against is None else open_against(against, part)
    judged = open_judged(given, config, data, part, device)
    if data is None and isinstance(judged, DrawnPictures):
        data = judged.data
    folder = out or (run_folder_of(given) if isinstance(judged, DrawnPictures) else None)
    with StopRequest() as stop:
        bench = Bench(judged, data, config, machine, world, cache, silent or not world.leads, stop)
        try:
            found = bench.evaluate(given)
        except StoppedError as error:
            raise _kept(bench.found(given), folder if world.leads else None, error) from None
    if not found.results:
        first, *more = found.refused.values()
        others = f" (and {len(more)} more)" if more else ""
        raise DataError(f"nothing could be measured{others}: {first}")
    if folder is None or not world.leads:
        return found
    return bench.written(found, folder)


def _kept(found: Evaluation, folder: Path | None, error: StoppedError) -> StoppedError:
    """The same error, once what was measured before the signal came is written down."""
    if folder is None or not found.results:
        return error
    file = store(folder, found.results, found.samples_seen, found.refused, found.details())
    names = ", ".join(result.estimate.name for result in found.results)
    return StoppedError(f"{error.problem}; kept in {file}: {names}", fix="ask for the metrics that are missing")


@dataclass
class Bench:
    """One evaluation at work."""

    judged: DrawnPictures | GivenPictures
    data: Source | None
    config: EvaluationConfig
    machine: Machine
    world: World
    cache: Path | None
    silent: bool
    stop: StopRequest
    results: list[Result] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    influence: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)
    neighbours: NeighbourReport | None = None

    def evaluate(self, given: Path) -> Evaluation:
        """Every metric; one that cannot be had is refused with its reason."""
        config = self.config
        own = (InfluenceMetric, NeighboursMetric, HeldOutMetric)
        plain: list[Any] = [metric for metric in config.metrics if not isinstance(metric, own)]
        extractors = self._extractors() if any(not isinstance(one, HeldOutMetric) for one in config.metrics) else []
        if any(metric.needs_reference for metric in plain) or config.of_kind(NeighboursMetric):
            self._against()  # it must be there before an hour is spent on drawing
        if plain or config.of_kind(NeighboursMetric):
            samples = self._samples(extractors)
            if plain:
                self._measure(plain, samples, extractors)
            for metric in config.of_kind(NeighboursMetric):
                self._refusable("neighbours", lambda metric=metric: self._neighbours(metric, samples[0], extractors[0]))
        for metric in config.of_kind(InfluenceMetric):
            self._refusable("control_influence", lambda metric=metric: self._influence(metric, extractors))
        for metric in config.of_kind(HeldOutMetric):
            self._refusable("held_out_loss", lambda metric=metric: self._held_out(metric))
        self.stop.heed()
        return self.found(given)

    def found(self, given: Path) -> Evaluation:
        """What there is so far."""
        seen = self.judged.run.samples_seen if isinstance(self.judged, DrawnPictures) else None
        return Evaluation(given, seen, tuple(self.results), self.refused, self.influence, self.held_out, self.neighbours)

    def written(self, found: Evaluation, folder: Path) -> Evaluation:
        """The same, with evaluation.json and the sheet of neighbours in `folder`."""
        sheet = None
        for metric in self.config.of_kind(NeighboursMetric):
            if found.neighbours is not None:
                sheet = write_sheet(found.neighbours, self.judged, self._training(), metric.shown, folder)
        file = store(folder, found.results, found.samples_seen, found.refused, found.details())
        return replace(found, file=file, sheet=sheet)

    def _extractors(self) -> list[FeatureExtractor]:
        if not self.config.extractors:
            raise ConfigError("nothing to see pictures with", needed="an extractor", fix=NO_EXTRACTOR)
        return [build_extractor(one, self.machine.device) for one in self.config.extractors]

    def _samples(self, extractors: Sequence[FeatureExtractor]) -> tuple[Statistics, ...]:
        label = "draw" if isinstance(self.judged, DrawnPictures) else "read"
        with Progress(self._share(len(self.judged)), label=label, unit="pictures", silent=self.silent) as progress:
            batches = counted(self.judged.batches(self.world), self._watched(progress))
            return collect(batches, extractors, capacity=max(50_000, len(self.judged)), world=self.world)

    def _measure(
        self, metrics: Sequence[Metric], samples: Sequence[Statistics], extractors: Sequence[FeatureExtractor]
    ) -> None:
        references: Sequence[Statistics | None] = [None] * len(samples)
        if any(metric.needs_reference for metric in metrics):
            references = self._reference(self._against(), extractors, self.config.against_n, "reference")
        refused: dict[str, list[str]] = {}
        for seen, reference in zip(samples, references, strict=True):
            found = measure(metrics, seen, reference, sampling=self.judged.sampling, bootstrap=self.config.bootstrap)
            self.results += found.results
            for protocol, reason in found.refused.items():
                refused.setdefault(protocol, []).append(reason)
        # With several extractors a metric counts as refused only where none of them could give it.
        self.refused |= {protocol: reasons[0] for protocol, reasons in refused.items() if len(reasons) == len(samples)}

    def _against(self) -> Source:
        if self.data is None:
            raise ConfigError("no data to measure against", fix="--against DATA")
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
                self.judged.size_px,
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
        if isinstance(self.judged, DrawnPictures) and self.judged.run.recipe.data.holdout is not None:
            source = open_data(self.judged.run.recipe.data, "held_out")
            (held_out,) = self._reference(source, [extractor], len(self.judged), "held out")
        sampling = None if self.judged.sampling is None else dict(self.judged.sampling)
        report = report_neighbours(samples, training, held_out, metric, self.config.bootstrap, sampling)
        self.results += [one for one in (report.result, report.held_out) if one is not None]
        self.neighbours = report

    def _training(self) -> Source:
        """What the run was trained on; of pictures without a run, the data they are measured against."""
        return open_data(self.judged.run.recipe.data) if isinstance(self.judged, DrawnPictures) else self._against()

    def _influence(self, metric: InfluenceMetric, extractors: Sequence[FeatureExtractor]) -> None:
        if not isinstance(self.judged, DrawnPictures):
            raise ConfigError("pictures that are there have no controls to change", needed="a run folder")
        total = self._share(min(metric.pictures, len(self.judged)))
        with Progress(total, label="controls", unit="seeds", silent=self.silent) as progress:
            found = measure_influence(
                self.judged, metric, extractors, self.config.bootstrap, world=self.world, on_seeds=self._watched(progress)
            )
        self.results += found.results
        self.influence |= found.table

    def _held_out(self, metric: HeldOutMetric) -> None:
        if not isinstance(self.judged, DrawnPictures):
            raise ConfigError("held_out_loss is of a model, not of pictures", needed="a run folder")
        run = self.judged.run
        encoders = Encoders(run.generator.autoencoder, run.text_encoder, run.machine)
        pictures = HeldOutPictures(run.recipe, run.known, encoders, metric.pictures, self.world)
        found = pictures.loss(run.model, self.config.bootstrap)
        self.results.append(pictures.result(found, self.config.bootstrap))
        self.held_out |= levels_of(found)

    def _refusable(self, name: str, work: Any) -> None:
        self.stop.heed()
        try:
            work()
        except StoppedError:
            raise
        except OpenLdmError as error:
            self.refused[name] = error.one_line()

    def _watched(self, progress: Progress) -> Callable[[int], None]:
        """Tells the progress; raises StoppedError once a signal has come."""

        def update(done: int) -> None:
            progress.update(done)
            self.stop.heed()

        return update

    def _share(self, count: int) -> int:
        """About as many as this process sees."""
        return -(-count // self.world.size)
