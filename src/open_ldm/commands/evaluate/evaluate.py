"""Evaluate a run or stored pictures: numbers with protocols."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_ldm.checkpoints.names import run_folder_of
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.commands.evaluate.evaluator import Evaluator
from open_ldm.commands.evaluate.found import Evaluation
from open_ldm.commands.evaluate.pictures import GivenPictures, SampledPictures, open_evaluated
from open_ldm.commands.evaluate.reference import CACHE, open_against
from open_ldm.commands.refresh_report import refresh_report
from open_ldm.core.device import DeviceName, set_up_machine
from open_ldm.core.distributed import join_world
from open_ldm.core.errors import DataError, StoppedError
from open_ldm.core.hashes import hash_tensors
from open_ldm.core.signals import StopRequest
from open_ldm.data.holdout import PartName
from open_ldm.data.sample import Source
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features import FeatureConfig
from open_ldm.evaluation.stored import store
from open_ldm.runs.tracked import send_evaluations
from open_ldm.sources.loader import DataConfig

DEFAULT_METRICS = ("fid", "kid", "precision_recall", "density_coverage")


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
    """Measure a run (or checkpoint), sampling `n` pictures, or a folder or shards of pictures.

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

    Raises:
        ConfigError: Something cannot be opened, or a setting has no effect.
        DataError: The pictures are unusable, or no metric gave a number.
        StoppedError: A stop signal came; what was measured before is written.
    """
    with StopRequest() as stop:
        machine = set_up_machine(device)
        world = join_world(machine.device)
        with world.sharing_errors():
            data = None if against is None else open_against(against, part)
            pictures = open_evaluated(given, config, data, part, device)
            if isinstance(pictures, SampledPictures):
                data = pictures.data
            if world.size > 1:
                world.agreed("what is measured", _measured(pictures, data, config))
            folder = out or (run_folder_of(given) if isinstance(pictures, SampledPictures) else None)
            evaluator = Evaluator(pictures, data, config, machine, world, cache, silent or not world.leads, stop)
            try:
                found = evaluator.evaluate(given)
            except StoppedError as error:
                raise _kept(evaluator.found(given), folder if world.leads else None, error) from None
            if not found.results:
                first, *more = found.refused.values()
                others = f" (and {len(more)} more)" if more else ""
                raise DataError(f"no metric could be computed{others}: {first}")
            if folder is None or not world.leads:
                return found
            written = evaluator.written(found, folder)
        for problem in send_evaluations(folder):
            print(f"note: {problem}", file=sys.stderr)
    if out is None:
        refresh_report(folder)
    return written


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
