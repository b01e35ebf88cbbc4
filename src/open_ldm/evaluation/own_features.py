"""Features for a run that names none: of a small classifier fitted on its own labelled pictures, or of an untrained network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from open_ldm.core.errors import DataError
from open_ldm.data.sample import Source
from open_ldm.evaluation.features import FeatureConfig
from open_ldm.evaluation.features.classifier import ClassifierConfig
from open_ldm.evaluation.features.classifier_fit import FitConfig, fit, is_fitted
from open_ldm.evaluation.features.random import RandomConfig

FOLDER = "features"
"""Of the classifier, inside a run folder."""
FIT = FitConfig(pictures=20_000)
"""A minute or two of one core: enough to tell runs on the same data apart."""


@dataclass(frozen=True)
class OwnFeatures:
    """`config`: the extractor; `sentence`: what it is, and what its numbers are worth."""

    config: FeatureConfig
    sentence: str


def own_features(
    source: Source,
    folder: Path,
    *,
    device: torch.device | None = None,
    on_batch: Callable[[int, float], None] | None = None,
    interrupt: Callable[[], None] = lambda: None,
    config: FitConfig = FIT,
) -> OwnFeatures:
    """Take the classifier that a folder holds, or fit it on labelled pictures; the same call goes on with an interrupted fit.

    Args:
        source: The training pictures of a run.
        folder: Of the classifier.
        device: Where it is fitted.
        on_batch: As `fit`.
        interrupt: As `fit`.
        config: As `fit`.

    Returns:
        The classifier's; of pictures without classes, or too few of them, those of an untrained network.
    """
    if not is_fitted(folder, config):
        try:
            fit(source, folder, config, device=device, on_batch=on_batch, interrupt=interrupt)
        except DataError as error:
            why = f"features of an untrained network, since no classifier can be fitted on the data ({error.problem})"
            return OwnFeatures(RandomConfig(), f"{why}: their numbers compare runs on these data, and mean little else")
    words = f"features of a small classifier fitted on the run's own pictures ({folder})"
    return OwnFeatures(ClassifierConfig(path=folder), f"{words}: their numbers compare runs on these data alone")
