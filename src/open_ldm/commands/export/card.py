"""The model card of an exported run: what it was trained on and how, curves, samples, numbers, and what to fill in by hand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_ldm import __version__
from open_ldm.checkpoints.names import run_folder_of
from open_ldm.commands.export.private import NOT_EXPORTED, without_places
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.core.config import plain_yaml
from open_ldm.core.errors import escaped
from open_ldm.core.files import read_json_object, write_text
from open_ldm.data.bucket_shapes import listed, words_of
from open_ldm.evaluation.stored import FILE, Stored, stored_results
from open_ldm.pages.charts import Plot
from open_ldm.pages.figures import save_figure
from open_ldm.pages.templates import render_text
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.history import RunHistory, lookup, read_history
from open_ldm.run_folder.report.training import axis_for, curve_of
from open_ldm.runs.load import LoadedRun

CURVES, SAMPLES = "curves.png", "samples.png"
_SHOWN_CLASSES = 20


def write_card(run: Path, loaded: LoadedRun, folder: Path) -> None:
    """Write README.md, and the pictures that it shows, into an exported folder.

    Args:
        run: The run folder, or one checkpoint inside it.
        loaded: The run.
        folder: The exported folder.
    """
    home = run_folder_of(run)
    part = RunFolder(home).parts[-1].path
    history = read_history(part)
    if train := history.named("train"):
        curve = curve_of(train, "loss", "loss", smooth=True)
        plot = Plot("Loss", "samples seen", "loss", [curve], y_axis=axis_for([curve]), width=690, height=400)
        save_figure(folder / CURVES, plot)
    if history.previews:
        shutil.copyfile(history.previews[-1].path, folder / SAMPLES)
    results = [one for place in dict.fromkeys((home, part)) for one in stored_results(place)]
    evaluation = read_json_object((home if (home / FILE).is_file() else part) / FILE)
    content = _content(loaded, history, folder)
    memory = _memorisation(results, evaluation)
    write_text(folder / "README.md", render_text("card.md", **content, results=list(map(_row, results)), memory=memory))


def _content(loaded: LoadedRun, history: RunHistory, folder: Path) -> dict[str, Any]:
    recipe, facts, semantic = loaded.recipe, loaded.known.facts, loaded.recipe.conditioning.semantic
    names = facts.class_names
    shown = {"ClassSemantic": f"class_labels={_plain(names[0])!r}" if names else "", "TextSemantic": 'prompt="..."'}
    return {
        "name": recipe.name,
        "version": __version__,
        "task": "text-to-image" if isinstance(semantic, TextSemantic) else "unconditional-image-generation",
        "call": shown.get(type(semantic).__name__, ""),
        "text_models": (folder / "text_encoder").is_dir(),
        "latents": (folder / "vae").is_dir(),
        "classes": ", ".join(map(_quoted, names[:_SHOWN_CLASSES])) if isinstance(semantic, ClassSemantic) else "",
        "more_classes": max(0, len(names) - _SHOWN_CLASSES),
        "controls": [
            (_plain(control.asked_as), _plain(control.asked_form(facts.view))) for control in recipe.conditioning.controls
        ],
        "size": listed(loaded.shapes),
        "usual": words_of(loaded.shapes[0]) if len(loaded.shapes) > 1 else "",
        "denoiser": recipe.denoiser.kind,
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "samples_seen": loaded.samples_seen,
        "data": _quoted(str(history.data.get("sentence", "")) or "not recorded"),
        "source": str(lookup(recipe.model_dump(mode="json"), "data.source.kind")),
        "sampling": recipe.sampling,
        "recipe": plain_yaml(without_places(recipe.model_dump(mode="json"), NOT_EXPORTED)).strip(),
        "curves": CURVES if (folder / CURVES).is_file() else "",
        "samples": SAMPLES if (folder / SAMPLES).is_file() else "",
    }


def _plain(text: str) -> str:
    """Text of any data on one line, without the signs by which Markdown would be written."""
    return escaped(text).translate(str.maketrans("`|<>", "'/()"))


def _quoted(text: str) -> str:
    return f"`{_plain(text)}`"


def _row(stored: Stored) -> dict[str, Any]:
    one = stored.result.estimate
    return {
        "name": one.name,
        "value": f"{one.value:.4g}",
        "interval": f"{one.low:.4g} to {one.high:.4g}",
        "count": f"{one.count:,}",
        "seen": "" if stored.samples_seen is None else f"{stored.samples_seen:,}",
        "protocol": stored.result.protocol.id,
        "warnings": "; ".join(one.warnings),
    }


def _memorisation(results: list[Stored], evaluation: Mapping[str, Any]) -> list[str]:
    """What is known of pictures that repeat a training picture, a sentence each."""
    shares = {one.result.estimate.name: one.result.estimate for one in results}
    lines = []
    for name, what in (("copies", "samples"), ("copies_held_out", "held-out pictures, which were never trained on")):
        if (share := shares.get(name)) is not None:
            lines.append(
                f"{share.value:.2%} of {share.count:,} {what} lie unusually near to a training picture"
                f" (95 % interval {share.low:.2%} to {share.high:.2%})."
            )
    near = evaluation.get("neighbours")
    if isinstance(near, Mapping) and isinstance(sampled := near.get("median_distance"), int | float):
        real, training = near.get("median_distance_held_out"), near.get("median_distance_training")
        held = f", of held-out pictures {real:.3g}" if isinstance(real, int | float) else ""
        among = f", among training pictures {training:.3g}" if isinstance(training, int | float) else ""
        lines.append(f"Median distance of samples to the nearest training picture: {sampled:.3g}{held}{among}.")
    return lines
