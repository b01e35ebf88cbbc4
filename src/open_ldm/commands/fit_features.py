"""`ldm evaluate fit-features`: features for pictures that no published network knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from open_ldm.commands.evaluate.reference import open_against
from open_ldm.commands.samples import SAMPLES
from open_ldm.core.device import DeviceName, set_up_machine
from open_ldm.core.errors import ConfigError, StoppedError
from open_ldm.core.events import Progress
from open_ldm.core.signals import StopRequest
from open_ldm.evaluation.features.classifier_fit import FitConfig, Fitted, fit, fitted_before
from open_ldm.run_folder.own_folder import require_no_run
from open_ldm.sources.loader import DataConfig


def fit_features(
    data: DataConfig | str | Path,
    out: Path,
    config: FitConfig,
    *,
    device: DeviceName = "auto",
    silent: bool = False,
    changes: Sequence[str] = (),
    replace: bool = False,
) -> Fitted:
    """Train the classifier on `data` (as `open_against`) and write it into the folder `out`.

    Args:
        data: Labelled pictures.
        out: The folder; the classifier that it holds by the same settings is taken as it is.
        config: Settings of the fit.
        device: Where the network runs.
        silent: Show no progress.
        changes: Assignments to the recipe that `data` names, such as `data.source.path=...`.
        replace: Whether a classifier of other settings that is there makes room for the new one.

    Returns:
        The classifier. The same call goes on where an interrupted one stopped.

    Raises:
        ConfigError: `out` is a file or a run folder, or holds a classifier of other settings; `data` holds samples of a model.
        DataError: The data have no classes, or too few pictures.
        StoppedError: A stop signal came; the fit is kept as far as it is.
    """
    if not isinstance(data, DataConfig) and (Path(data) / SAMPLES).is_file():
        raise ConfigError(f"{data} holds samples of a model", needed="real pictures, which a model cannot have shaped")
    require_no_run(out, "classifier")
    with StopRequest() as stop:
        source = open_against(data, changes=changes)
        if not replace and (there := fitted_before(out, source, config)) is not None:
            return there
        device_used = set_up_machine(device).device
        with Progress(config.pictures, label="fit", unit="pictures", silent=silent) as progress:
            progress.say(source.summary.sentence())

            def show(shown: int, loss: float) -> None:
                progress.update(shown, loss=loss)

            try:
                return fit(source, out, config, device=device_used, on_batch=show, interrupt=stop.raise_if_requested)
            except StoppedError as error:
                raise StoppedError(f"{error.problem} and saved", fix="the same command goes on") from None
