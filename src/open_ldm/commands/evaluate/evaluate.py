"""Evaluate a run or stored pictures: numbers with protocols."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_ldm.checkpoints.names import run_folder_of
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.commands.evaluate.evaluator import Evaluator
from open_ldm.commands.evaluate.found import Evaluation
from open_ldm.commands.evaluate.parts import FOLDER, PartCollected, Parts
from open_ldm.commands.evaluate.pictures import GivenPictures, SampledPictures, open_evaluated
from open_ldm.commands.evaluate.reference import CACHE, open_against
from open_ldm.commands.refresh_report import refresh_report
from open_ldm.core.device import DeviceName, Machine, set_up_machine
from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import ConfigError, DataError, StoppedError
from open_ldm.core.hashes import hash_tensors
from open_ldm.core.signals import StopRequest
from open_ldm.core.tasks import Task
from open_ldm.data.holdout import PartName
from open_ldm.data.sample import Source
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features import FeatureConfig
from open_ldm.evaluation.parts import parts_left
from open_ldm.evaluation.stored import store
from open_ldm.run_folder.folder import is_run
from open_ldm.runs.tracked import send_evaluations
from open_ldm.sources.loader import DataConfig

DEFAULT_METRICS = ("fid", "kid", "precision_recall", "density_coverage")


def evaluate_run(
    given: Path,
    against: DataConfig | str | Path | None,
    metrics: Sequence[str | Mapping[str, Any]],
    *,
    extractors: Sequence[FeatureConfig] = (),
    n: int | None = None,
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
    """Measure a run (or checkpoint), sampling `n` pictures (1,000), or the first `n` (all) of a folder or shards of pictures.

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
    join: bool = False,
) -> Evaluation:
    """Compute all of `config.metrics`. Under torchrun the processes share the pictures.

    Args:
        given: A run folder, one checkpoint, a folder of pictures, or shards.
        against: Data to compare with, as for `open_against`; None is the run's own data.
        config: Metrics, extractors and their settings.
        part: Of data with a holdout.
        out: Where evaluation.json is written; None takes the run folder, and writes nothing for stored pictures.
        cache: Where the data's statistics are kept; None keeps nothing.
        device: Where the networks run.
        silent: Show no progress.
        join: The pictures were collected before, by `collect_part`.

    Raises:
        ConfigError: Something cannot be opened, or a setting has no effect.
        DataError: The pictures are unusable, or no metric gave a number.
        StoppedError: A stop signal came; what was measured before is written.
    """
    with StopRequest() as stop, _world_of(device) as (machine, world):
        evaluator, folder = _opened(given, against, config, part, out, cache, device, machine, world, silent, stop, join=join)
        try:
            found = evaluator.evaluate(given)
        except StoppedError as error:
            raise _kept(evaluator.found(given), folder if world.leads else None, error) from None
        if not found.results:
            first, *more = found.refused.values()
            others = f" (and {len(more)} more)" if more else ""
            raise DataError(f"no metric could be computed{others}: {first}")
        written = evaluator.written(found, folder) if folder is not None and world.leads else found
        evaluator.collector.forget()
        world.barrier("the end of the evaluation")
        if folder is None or not world.leads:
            return found
    left = parts_left(folder / FOLDER)
    for note in [*send_evaluations(folder), *([] if left is None else [left.sentence()])]:
        print(f"note: {note}", file=sys.stderr)
    if out is None:
        refresh_report(folder)
    return written


def collect_part(
    given: Path,
    against: DataConfig | str | Path | None,
    config: EvaluationConfig,
    task: Task,
    *,
    part: PartName = "train",
    out: Path | None = None,
    device: DeviceName = "auto",
    silent: bool = False,
) -> PartCollected:
    """Collect one task's share of the pictures and keep it; `evaluate` with `join` measures them once all are there.

    Args:
        given: As in `evaluate`, like all the rest.
        against: Where classes and captions come from.
        config: Its metrics play no part.
        task: Which share.
        part: Of data with a holdout.
        out: Folder that all tasks share; None takes the run folder.
        device: Where the networks run.
        silent: Show no progress.

    Raises:
        ConfigError: As `evaluate`; or there are more tasks than batches.
        StoppedError: A stop signal came; the same command goes on from what was kept in the last ten minutes.
    """
    with StopRequest() as stop, _world_of(device) as (machine, world):
        evaluator, _ = _opened(given, against, config, part, out, None, device, machine, world, silent, stop, task=task)
        return evaluator.collect_part()


@contextmanager
def _world_of(device: DeviceName) -> Iterator[tuple[Machine, World]]:
    machine = set_up_machine(device)
    world = join_world(machine.device)
    with world.sharing_errors():
        yield machine, world


def _opened(
    given: Path,
    against: DataConfig | str | Path | None,
    config: EvaluationConfig,
    part: PartName,
    out: Path | None,
    cache: Path | None,
    device: DeviceName,
    machine: Machine,
    world: World,
    silent: bool,
    stop: StopRequest,
    *,
    task: Task | None = None,
    join: bool = False,
) -> tuple[Evaluator, Path | None]:
    """Open what is measured; returns the folder of its results as well, None for stored pictures without one."""
    if out is not None:
        _require_own_results(given, out)
    data = None if against is None else open_against(against, part)
    pictures = open_evaluated(given, config, data, part, device)
    if isinstance(pictures, SampledPictures):
        data = pictures.data
    elif config.n is None and world.leads and (left_out := pictures.left_out):
        print(f"note: {left_out}", file=sys.stderr)
    if world.size > 1:
        world.agreed("what is measured", _measured(pictures, data, config))
    folder = out or (run_folder_of(given) if isinstance(pictures, SampledPictures) else None)
    parts = Parts(folder, task, join)
    quiet = silent or not world.leads
    return Evaluator(pictures, data, config, machine, world, cache, quiet, stop, parts), folder


def _require_own_results(given: Path, out: Path) -> None:
    """Raise ConfigError where results would stand among those of another run, in whose report they would be shown."""
    measured, folder = given.expanduser().resolve(), out.resolve()
    if is_run(folder) and not (measured.is_relative_to(folder) or folder.is_relative_to(run_folder_of(measured))):
        raise ConfigError(
            f"--out {out} is the folder of another run than {given}",
            needed="a folder of its own for the results",
            fix="choose another --out",
        )


def _measured(pictures: SampledPictures | GivenPictures, data: Source | None, config: EvaluationConfig) -> dict[str, Any]:
    """What must be the same for all processes that share an evaluation."""
    content: dict[str, Any] = {name: str(value) for name, value in config.model_dump(mode="json").items()}
    content["data"] = None if data is None else data.fingerprint
    if isinstance(pictures, SampledPictures):
        return {**content, "samples seen": pictures.run.samples_seen, "weights": hash_tensors(pictures.run.model.state_dict())}
    return {**content, "pictures": pictures.source.fingerprint}


def _kept(found: Evaluation, folder: Path | None, error: StoppedError) -> StoppedError:
    """The same error, once what was measured before the signal came is written down."""
    if folder is None or not found.results:
        return error
    file = store(folder, found.results, found.samples_seen, found.refused, found.details())
    names = ", ".join(result.estimate.name for result in found.results)
    kept = StoppedError(f"{error.problem}; kept in {file}: {names}", fix="run it again with the remaining --metrics")
    kept.of_all = error.of_all
    return kept
