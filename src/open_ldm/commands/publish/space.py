"""A run -> the folder of a Space: the page Play, the weights, and this package's source; it runs offline from the folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import open_ldm
from open_ldm.checkpoints.names import run_folder_of
from open_ldm.commands.export.pipeline import refuse_own_controls, write_autoencoder, write_text_models
from open_ldm.commands.export.private import NOT_EXPORTED, leave_out_places, without_places
from open_ldm.commands.export.source import licence
from open_ldm.commands.pack import write_model
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.core.files import read_json_object, write_json, write_text
from open_ldm.core.new_folder import new_folder, require_new
from open_ldm.pages.templates import render_text
from open_ldm.run_folder.history import lookup
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import Recipe

MODEL, VAE, TEXT = "model", "vae", "text_encoder"
_PACKAGE = Path(open_ldm.__file__).parent
_NOT_COPIED = ("__pycache__", "demo_models", "*.pyc")
_APP = '''"""Starts the page Play on the model in this folder. Written by open-ldm {version}."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.chdir(HERE)  # the recipe names its autoencoder and text models from here
sys.path.insert(0, str(HERE))

from open_ldm.studio.space import serve_space  # noqa: E402

if __name__ == "__main__":
    sys.exit(serve_space(HERE / "{model}", {title!r}))
'''


def publish_space(run: Path, out: Path) -> Path:
    """Write a Space folder: app.py, requirements.txt, README.md with the Space's card, weights, and this package's source.

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
    gradio = need("gradio", extra="studio").__version__
    loaded = load_run(run, "cpu")
    refuse_own_controls(loaded)
    with new_folder(out) as folder:
        has_vae = write_autoencoder(loaded, folder / VAE) != [None, None]
        has_text = write_text_models(loaded, folder / TEXT)
        for part in (VAE, TEXT):
            leave_out_places(folder / part)
        write_model(loaded, recipe_here(loaded.recipe, has_vae=has_vae, has_text=has_text), folder / MODEL)
        write_json(folder / MODEL / "data.json", {"survey": _survey(run)})
        shutil.copytree(_PACKAGE, folder / "open_ldm", ignore=shutil.ignore_patterns(*_NOT_COPIED))
        title = loaded.recipe.name
        write_text(folder / "app.py", _APP.format(version=open_ldm.__version__, model=MODEL, title=title))
        needed = "".join(f"{one}\n" for one in _requirements(has_vae=has_vae, has_text=has_text))
        write_text(folder / "requirements.txt", needed)
        write_text(folder / "LICENSE", licence())
        content = {"title": title, "gradio": gradio, "version": open_ldm.__version__, "samples_seen": loaded.samples_seen}
        captions = isinstance(loaded.recipe.conditioning.semantic, TextSemantic)
        write_text(folder / "README.md", render_text("space.md", **content, captions=captions))
    return out


def recipe_here(recipe: Recipe, *, has_vae: bool, has_text: bool) -> Recipe:
    """Return the recipe with its autoencoder and text models in the Space's folder, and no other place of this machine."""
    content: dict[str, Any] = without_places(recipe.model_dump(mode="json"), NOT_EXPORTED)
    content["track"], content["stages"] = [], []
    if has_vae:
        content["autoencoder"] |= {"path": VAE, "subfolder": ""}
    if has_text:
        models = [model for group in content["conditioning"]["semantic"]["encoder"]["models"] for model in group]
        for number, model in enumerate(models):
            model |= {"path": f"{TEXT}/model-{number:02d}", "subfolder": "", "tokenizer_subfolder": ""}
    return Recipe.model_validate(content)


def _survey(run: Path) -> dict[str, Any]:
    """What the page reads of a survey: the range of sizes, and one caption to begin with."""
    survey = read_json_object(run_folder_of(run) / "data.json").get("survey")
    ends = {
        side: {end: lookup(survey, f"{side}.{end}") for end in ("smallest", "largest")} for side in ("height_px", "width_px")
    }
    captions = lookup(survey, "example_captions")
    return {**ends, "example_captions": captions[:1] if isinstance(captions, list) else []}


def _requirements(*, has_vae: bool, has_text: bool) -> Iterator[str]:
    """What pip installs: what this package needs, at least in the versions that it needs; the Space brings gradio itself."""
    extras = {"studio", *(["autoencoders"] if has_vae else []), *(["text"] if has_text else [])}
    try:
        stated = requires("open-ldm") or []
    except PackageNotFoundError as error:
        raise ConfigError("open-ldm is not installed", needed="an installation that states what it needs") from error
    for one in stated:
        requirement, _, condition = one.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", condition)
        wanted = extra is None or extra[1] in extras
        if wanted and not requirement.startswith(("open-ldm", "gradio")):
            name = re.match(r"[\w.-]+", requirement)
            yield f"torch=={version('torch').partition('+')[0]}" if name and name[0] == "torch" else requirement.strip()
