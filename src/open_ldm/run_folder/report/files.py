"""The part of a run's report that leads to the files beside it."""

from __future__ import annotations

from pathlib import Path

from open_ldm.pages.content import Link, Part, Table, link_to

_MEANING = {
    "config.yaml": "the resolved recipe, itself runnable",
    "events.jsonl": "everything that happened, one JSON object a line",
    "data.json": "what data was seen",
    "health.json": "pictures that could not be used",
    "transfer.json": "what the run started from",
    "evaluation.json": "what was measured, with protocols",
    "exit.json": "how the last process ended",
    "samples": "previews, always the same seeds",
    "reconstructions": "held-out pictures and their reconstructions",
    "drawn": "pictures of ldm sample",
    "inspect": "what ldm inspect found",
    "autoencoder": "the autoencoder, in the format of diffusers",
    "checkpoints": "checkpoints, newest last by name",
}


def files_part(folder: Path) -> Part | None:
    """Links to what lies in the run folder; None when it holds nothing of a run."""
    page = folder / "report.html"
    there = [(folder / name, meaning) for name, meaning in _MEANING.items() if (folder / name).exists()]
    if manifests := sorted((folder / "checkpoints").glob("[!.]*/MANIFEST.json")):
        there.append((manifests[-1], "what the newest checkpoint holds, with SHA-256 of every file"))
    rows: list[list[str | Link]] = [[link_to(path, page), meaning] for path, meaning in there]
    return Part("Files", "table.html", Table(rows)) if rows else None


def recipe_part(config_text: str) -> Part | None:
    """The resolved recipe, folded."""
    return Part("Recipe", "run/recipe.html", config_text) if config_text.strip() else None
