"""A run -> a folder that diffusers' DiffusionPipeline loads, with no open-ldm installed."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from open_ldm.autoencoders.pretrained import Pretrained
from open_ldm.commands.export.card import write_card
from open_ldm.commands.export.private import leave_out_places, without_places
from open_ldm.commands.export.source import licence, write_source
from open_ldm.controls.own import own_controls
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.core.files import write_json, write_text
from open_ldm.core.new_folder import new_folder, require_new
from open_ldm.portable import network as network_code
from open_ldm.portable import scheduler as scheduler_code
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.text import HuggingFaceEncoder

_CODE = Path(network_code.__file__).parent
_CHANGES = ("steps", "solver", "semantic_scale", "control_scale", "spacing")


def export_pipeline(run: Path, out: Path) -> Path:
    """Write the averaged weights of a run, and all that samples from them, as a pipeline of diffusers.

    Args:
        run: A run folder, or one checkpoint inside it.
        out: The folder to make.

    Returns:
        The folder.

    Raises:
        ConfigError: The folder is in use, or the model has a control that only the user's program defines.
        DiskError: It cannot be written.
    """
    require_new(out)
    diffusers = need("diffusers", extra="autoencoders")
    loaded = load_run(run, "cpu")
    refuse_own_controls(loaded)
    with new_folder(out) as folder:
        index: dict[str, Any] = {"_class_name": ["pipeline", "OpenLdmPipeline"], "_diffusers_version": diffusers.__version__}
        shutil.copyfile(_CODE / "for_diffusers" / "pipeline.py", folder / "pipeline.py")
        _write_network(loaded, folder / "network")
        _write_scheduler(folder / "scheduler")
        index |= {"network": ["network", "OpenLdmNetwork"], "scheduler": ["scheduler", "OpenLdmScheduler"]}
        index["vae"] = write_autoencoder(loaded, folder / "vae")
        index["text_encoder"] = _write_text(loaded, folder / "text_encoder")
        for part in ("vae", "text_encoder"):
            leave_out_places(folder / part)
        write_json(folder / "model_index.json", index)
        write_text(folder / "LICENSE", licence())
        write_card(run, loaded, folder)
    return out


def refuse_own_controls(loaded: LoadedRun) -> None:
    """Raise ConfigError for a model with a control that only the user's program defines: nobody else could sample from it."""
    if own := [control.kind for control in loaded.recipe.conditioning.controls if control.kind in own_controls()]:
        raise ConfigError(
            f"the control {own[0]!r} is defined by a program of yours", needed="controls of open-ldm in an export"
        )


def _write_network(loaded: LoadedRun, folder: Path) -> None:
    folder.mkdir()
    recipe, dumped = loaded.recipe, loaded.recipe.model_dump(mode="json")
    settings = {name: dumped[name] for name in ("process", "conditioning", "denoiser", "autoencoder", "sampling")}
    content = {
        "_class_name": "OpenLdmNetwork",
        "source": write_source(folder / network_code.SOURCE),
        "samples_seen": loaded.samples_seen,
        "settings": {
            **without_places(settings),
            "display": recipe.data.display,
            "dtype": recipe.training.dtype,
            "shapes": loaded.shapes,
        },
        **loaded.known.to_json(),
    }
    write_json(folder / network_code.CONFIG, content)
    tensors = {name: tensor.contiguous() for name, tensor in loaded.model.state_dict().items()}
    save_file(tensors, folder / network_code.WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(_CODE / "network.py", folder / "network.py")


def _write_scheduler(folder: Path) -> None:
    scheduler_code.OpenLdmScheduler(dict.fromkeys(_CHANGES)).save_pretrained(str(folder))
    shutil.copyfile(_CODE / "scheduler.py", folder / "scheduler.py")


def write_autoencoder(loaded: LoadedRun, folder: Path) -> list[str | None]:
    """Write a run's autoencoder in diffusers' format; returns library and class, None for a model of pixels."""
    autoencoder: Any = loaded.generator.autoencoder
    if not isinstance(autoencoder, Pretrained):
        return [None, None]
    autoencoder.network.save_pretrained(folder, safe_serialization=True)
    return ["diffusers", type(autoencoder.network).__name__]


def _write_text(loaded: LoadedRun, folder: Path) -> list[str | None]:
    if not write_text_models(loaded, folder):
        return [None, None]
    shutil.copyfile(_CODE / "text_encoder.py", folder / "text_encoder.py")
    return ["text_encoder", "OpenLdmTextEncoder"]


def write_text_models(loaded: LoadedRun, folder: Path) -> bool:
    """Write a run's text models in transformers' format, as model-00, model-01, ...; returns whether it has any."""
    encoder = loaded.text_encoder
    if not isinstance(encoder, HuggingFaceEncoder):
        return False
    with redirect_stderr(io.StringIO()):  # transformers shows a bar for each file
        for number, model in enumerate(model for group in encoder.groups for model in group):
            model.network.save_pretrained(folder / f"model-{number:02d}", safe_serialization=True)
            model.tokenizer.save_pretrained(folder / f"model-{number:02d}")
    return True
