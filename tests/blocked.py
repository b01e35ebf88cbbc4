"""Python processes in which some modules cannot be imported, as on a system or in an environment without them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

NOT_ON_WINDOWS = ("fcntl", "resource")
OF_EXTRAS = (
    "transformers",
    "sentencepiece",
    "huggingface_hub",
    "diffusers",
    "datasets",
    "tifffile",
    "pillow_heif",
)


def run_without(
    modules: Sequence[str], arguments: Sequence[str], folder: Path, *, first: str = "", seconds: float = 240
) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` in `folder`, without `modules`; its own child processes have to do without them as well.

    `first`: a program that runs before everything else in each of these processes.
    """
    before = folder / "before"
    before.mkdir(exist_ok=True)
    (before / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({tuple(modules)!r}))\n{first}\n")
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=_environment(before),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def _environment(before: Path) -> Mapping[str, str]:
    paths = [str(before), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
