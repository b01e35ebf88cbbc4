"""`ldm evaluate fit-features`: features for pictures that no published network knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from open_ldm.commands.evaluate.reference import open_against
from open_ldm.commands.samples import SAMPLES
from open_ldm.core.device import DeviceName, set_up_machine
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import Progress
from open_ldm.evaluation.features.classifier_fit import FitConfig, Fitted, fit
from open_ldm.sources.loader import DataConfig


def fit_features(
    data: DataConfig | str | Path,
    out: Path,
    config: FitConfig,
    *,
    device: DeviceName = "auto",
    silent: bool = False,
    changes: Sequence[str] = (),
) -> Fitted:
    """Train the classifier on `data` (as `open_against`) and write it into the folder `out`.

    The same call goes on where an interrupted one stopped. `changes` are assignments to the recipe that `data` names, such as
    `data.source.path=...`.

    Raises ConfigError when `out` is a file or `data` holds samples of a model, DataError without classes.
    """
    if not isinstance(data, DataConfig) and (Path(data) / SAMPLES).is_file():
        raise ConfigError(f"{data} holds samples of a model", needed="real pictures, which a model cannot have shaped")
    if out.is_file():
        raise ConfigError(f"--out {out} is a file", needed="the path of a folder")
    source = open_against(data, changes=changes)
    machine = set_up_machine(device)
    with Progress(config.pictures, label="fit", unit="pictures", silent=silent) as progress:
        progress.say(source.summary.sentence())
        return fit(source, out, config, device=machine.device, on_batch=lambda shown, loss: progress.update(shown, loss=loss))
