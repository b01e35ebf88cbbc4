"""The guide of autoguidance: another checkpoint or average of a run, or a weaker run on the same data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from open_ldm.core.errors import ConfigError
from open_ldm.core.hashes import hash_tensors
from open_ldm.model.spec import DataFacts, ProcessConfig
from open_ldm.runs.load import LoadedRun, load_model


def guided_run(run: LoadedRun, guide: Path | None) -> LoadedRun:
    """Return a run that samples with a guide; the same run where none is named.

    Args:
        run: Whose model leads away from the guide.
        guide: A run folder, or one checkpoint inside it.

    Raises:
        ConfigError: The guide knows other latents, conditions or noise than the run.
    """
    if guide is None:
        return run
    loaded = load_model(guide, "cpu" if run.machine.device.type == "cpu" else "auto")
    alike = {
        "noise": (_noise(run.recipe.process), _noise(loaded.recipe.process)),
        "setting of learned_variance": tuple(each.recipe.process.learned_variance for each in (run, loaded)),
        "conditioning": (run.recipe.conditioning, loaded.recipe.conditioning),
        "autoencoder": (run.recipe.autoencoder, loaded.recipe.autoencoder),
        "latent statistics": (run.known.stats, loaded.known.stats),
        "classes and words": tuple((each.known.facts.class_names, each.known.facts.words) for each in (run, loaded)),
        "reading of metadata": (_read_columns(run.known.facts), _read_columns(loaded.known.facts)),
        "size of the latents": tuple((each.known.facts.channels, each.known.facts.latent_size) for each in (run, loaded)),
    }
    for name, (own, other) in alike.items():
        if own != other:
            raise ConfigError(
                f"the guide {guide} has another {name} than {run.path}",
                needed="an earlier checkpoint or another average of the run, or a weaker run of the same data and conditions",
            )
    return replace(run, generator=run.generator.guided_by(loaded.model))


def _noise(process: ProcessConfig) -> dict[str, Any]:
    """Settings of the process that two models must share; estimates of x_0 do not depend on what a network predicts."""
    return process.model_dump(exclude={"prediction", "learned_variance"})


def _read_columns(facts: DataFacts) -> list[tuple[Any, ...]]:
    """How the numbers and categories of columns reach the model."""
    return [(one.name, one.words, one.scale, one.mean, one.std) for one in facts.view.columns]


def guide_record(run: LoadedRun, guide: Path | None) -> dict[str, Any] | None:
    """Return what samples.json says of the guide, plain data; None without one."""
    model = run.generator.guide
    return None if guide is None or model is None else {"run": str(guide), "weights": hash_tensors(model.state_dict())}
