"""An exported pipeline in a new environment without open-ldm: what the card says to install, and whether pictures are the same.

python benchmarks/fresh_environment.py [RUN ...]     # the demo's two models by default; --keep FOLDER keeps the environment
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import torch

from open_ldm.commands.export.pipeline import export_pipeline
from open_ldm.commands.sample import open_run, requests_from, sample_images
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.runs.load import LoadedRun
from open_ldm.studio.models import demo_models
from open_ldm.text import HuggingFaceEncoder

ROOT = Path(__file__).parents[1]
NEEDED = ("torch", "diffusers", "safetensors", "pydantic", "pyyaml", "pillow")
"""As the model card says."""
COUNT, SEED = 4, 7
PROGRAM = """
import importlib.util, json, sys, time
assert importlib.util.find_spec("open_ldm") is None, "open-ldm is installed here"
import torch
from diffusers import DiffusionPipeline
torch.set_num_threads(1)
for folder, given in json.loads(sys.argv[1]).items():
    started = time.perf_counter()
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
    loaded = time.perf_counter()
    torch.save(pipe(**given, output_type="pt").images, f"{folder}/sampled.pt")
    print(json.dumps({"load": loaded - started, "sample": time.perf_counter() - loaded}), flush=True)
"""


def asked_of(run: LoadedRun) -> dict[str, object]:
    """What both sides sample, in the words of the pipeline."""
    given: dict[str, object] = {"seed": SEED, "num_images": COUNT}
    match run.recipe.conditioning.semantic:
        case ClassSemantic():
            given["class_labels"] = run.known.facts.class_names[0]
        case TextSemantic():
            given["prompt"] = (run.known.facts.words and "a large circle on the left") or "a photograph"
    return given


def sampled_here(run: LoadedRun, given: dict[str, object]) -> torch.Tensor:
    prompts = [str(given["prompt"])] if "prompt" in given else []
    classes = [str(given["class_labels"])] if "class_labels" in given else []
    return sample_images(run, requests_from(run, prompts, classes, COUNT, SEED, {}), run.recipe.sampling)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--keep", type=Path, help="where the environment is made and kept; one that is there is used again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        given, ours, texts = {}, {}, False
        for number, path in enumerate(options.runs or demo_models()):
            run = open_run(path, "cpu")
            folder = export_pipeline(path, work / f"{number}-{path.name}")
            given[str(folder)] = asked_of(run)
            ours[str(folder)] = sampled_here(run, given[str(folder)])
            texts = texts or isinstance(run.text_encoder, HuggingFaceEncoder)
        python, seconds = environment(options.keep or work / "venv", (*NEEDED, *(["transformers"] if texts else [])))
        print(f"environment made in {seconds:.0f} s: {versions(python)}")
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HOME": str(work / "hf")}
        command = [str(python), "-c", PROGRAM, json.dumps(given)]
        done = subprocess.run(command, cwd=work, env=clean, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr[-3000:], file=sys.stderr)
            return 1
        worst = 0.0
        for (folder, mine), line in zip(ours.items(), done.stdout.splitlines(), strict=True):
            apart = float((torch.load(f"{folder}/sampled.pt", weights_only=True) - mine).abs().max())
            worst, told = max(worst, apart), json.loads(line)
            print(
                f"{Path(folder).name}: largest difference {apart:.2g} of images in [-1, 1];"
                f" loaded in {told['load']:.1f} s, {COUNT} pictures in {told['sample']:.1f} s"
            )
    return int(worst > 1e-5)


def environment(folder: Path, needed: tuple[str, ...]) -> tuple[Path, float]:
    """Make an environment with these packages, in the versions of constraints.txt; returns its python and the seconds."""
    started, python = time.perf_counter(), folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), *needed], check=True)
    return python, time.perf_counter() - started


def versions(python: Path) -> str:
    done = subprocess.run([str(python), "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
    kept = [line for line in done.stdout.splitlines() if line.split("==")[0].lower() in (*NEEDED, "transformers", "numpy")]
    return ", ".join(kept)


if __name__ == "__main__":
    sys.exit(main())
