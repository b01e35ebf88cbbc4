"""What `same_behaviour.py` runs on both checkouts: tiny recipes and the commands of each case.

Every path is relative, so that whatever a command writes down is the same in two folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

WHOLE, KILLED = "runs/whole", "runs/killed"
"""The run folders of a case: trained in one go, and killed half way and started again."""
SAMPLES = 48
KILL_AT = 24
"""Between two checkpoints; a preview is drawn there, so that the kill lands well before the next one."""

DENOISERS: dict[str, dict[str, Any]] = {
    "mmdit": {"size": "XS", "patch": 4, "depth": 2, "width": 32, "heads": 2},
    "dit": {"size": "XS", "patch": 4, "depth": 2, "width": 32, "heads": 2},
    "pixart": {"size": "XS", "patch": 4, "depth": 2, "width": 32, "heads": 2},
    "mdtv2": {"size": "XS", "patch": 4, "depth": 3, "width": 32, "heads": 2, "decode_layers": 1},
    "unet": {"size": "XS", "model_channels": 16, "multipliers": [1, 2], "attention_factors": [2], "groups": 4},
}
DIFFUSION: dict[str, dict[str, Any]] = {
    "mmdit": {"process": {"prediction": "velocity"}, "sampling": {"solver": "euler"}},
    "dit": {
        "process": {"schedule": {"kind": "linear"}, "prediction": "eps", "learned_variance": True},
        "objective": {"times": {"kind": "uniform"}},
        "sampling": {"solver": "ddpm"},
    },
    "pixart": {
        "process": {"schedule": {"kind": "cosine"}, "prediction": "v"},
        "objective": {"weighting": {"kind": "min_snr"}},
        "sampling": {"solver": "ddim"},
    },
    "mdtv2": {"process": {"schedule": {"kind": "scaled_linear"}, "prediction": "eps"}, "sampling": {"solver": "dpmpp_2m"}},
    "unet": {"process": {"schedule": {"kind": "cosine"}, "prediction": "x_0"}, "sampling": {"solver": "heun"}},
}
"""Each denoiser under another schedule, prediction and solver, so that all of them are compared."""


@dataclass(frozen=True)
class Step:
    """One command. `kill_at`: SIGKILL once its run folder `run` has seen as many samples, then the same command again.

    `is_json`: what it prints is compared as JSON; otherwise it is a help page, of which words are compared.
    """

    arguments: tuple[str, ...]
    kill_at: int | None = None
    run: str = ""
    is_json: bool = True


@dataclass(frozen=True)
class Case:
    """Commands in a folder of their own, which holds `files` (name -> content, written as YAML).

    `again`: commands of the second round, in a copy of what the old checkout left. `pair`: two run folders that must agree.
    """

    name: str
    steps: tuple[Step, ...]
    files: dict[str, Any] = field(default_factory=dict)
    again: tuple[Step, ...] = ()
    pair: tuple[str, str] | None = None


def recipe_of(kind: str, **changes: Any) -> dict[str, Any]:
    """A recipe that trains in about a second; `changes` replace whole blocks."""
    content = {
        "name": f"same-{kind}",
        "data": {
            "source": {"kind": "shapes", "length": 60, "two_shapes": 0},
            "holdout": {"share": 0.2},
            "transform": {"size_px": 16, "crop": {"kind": "local", "scale_px": 20}, "flip": 0.5},
            "workers": 0,
        },
        "latent_stats": {"kind": "measured", "pictures": 16},
        "conditioning": {
            "semantic": {"kind": "text", "encoder": {"kind": "words", "length": 10, "width": 16}},
            "controls": [
                {"kind": "original_size", "gate": {"kind": "cosine_power", "alpha": 2.0}},
                {"kind": "crop"},
                {"kind": "flip"},
                {"kind": "aspect_ratio"},
            ],
        },
        **deepcopy(DIFFUSION[kind]),
        "denoiser": {"kind": kind, **DENOISERS[kind]},
        "training": {
            "samples": SAMPLES,
            "batch_size": 4,
            "micro_batch_size": 2,
            "optimizer": {"learning_rate": 0.02, "warmup_samples": 8, "weight_decay": 0.01},
            "ema": {"decay": 0.5},
            "device": "cpu",
            "dtype": "float32",
            "log_every_samples": 4,
            "preview_every_samples": 24,
            "checkpoint_every_samples": 16,
        },
        "preview": {"count": 4},
        "held_out": {"every_samples": 24, "pictures": 8},
    }
    content["sampling"] |= {"steps": 3, "guidance": {"semantic_scale": 2.0}}
    return content | changes


def cases(denoisers: Sequence[str], quick: bool) -> Iterator[Case]:
    """All cases; with `quick` training on live pixels and the words alone."""
    for kind in denoisers:
        yield denoiser_case(kind, cached=False)
        if not quick:
            yield denoiser_case(kind, cached=True)
    if not quick:
        yield classes_case()
        yield autoencoder_case()
        yield stages_case()
        yield published_case()
        yield tables_case()
        yield study_case()


def resumed_case(kind: str) -> Case:
    """A run folder that the old checkout leaves, and goes on with."""
    recipe = recipe_of(kind)
    recipe.pop("held_out")
    recipe["training"] |= {"preview_every_samples": 0}
    return Case(f"{kind}, gone on", (train(),), {"recipe.yaml": recipe}, (longer(),))


def denoiser_case(kind: str, *, cached: bool) -> Case:
    """Captions and controls: trained, killed and resumed, sampled, evaluated; on pictures drawn live, or from a cache."""
    content = recipe_of(kind)
    first: list[Step] = []
    last: list[Step] = []
    if cached:
        content["data"]["views"] = 2
        content["cache"] = {"path": "caches/shapes", "shard_mb": 0.05}
        content.pop("held_out")
        first = [_step("encode", "recipe.yaml")]
        last = [_step("encode", "recipe.yaml", "--verify")]
    else:
        last = [_step("compare", WHOLE, KILLED, "--count", "2"), _step("inspect", "tokens", WHOLE, "--pictures", "4")]
    steps = [*first, train(), train(killed=True), sample(WHOLE, f"{WHOLE}/drawn/0001"), evaluate(WHOLE), *last]
    where = "cache" if cached else "pixels"
    return Case(f"{kind}, {where}", tuple(steps), {"recipe.yaml": content}, again(), (WHOLE, KILLED))


def classes_case() -> Case:
    """Classes in place of captions."""
    semantic = {"kind": "class", "route": "modulation"}
    content = recipe_of("dit", conditioning={"semantic": semantic, "controls": [{"kind": "flip"}]})
    drawn = _step("sample", WHOLE, "flip=1", "--class", "red square", "--class", "blue cross", "--semantic-scale", "3")
    again = _step("sample", WHOLE, "--class", "red square", "--seed", "9")
    return Case("classes", (train(), drawn, evaluate(WHOLE, control="flip")), {"recipe.yaml": content}, (again,))


def autoencoder_case() -> Case:
    """An autoencoder, killed and resumed, then latents of it kept in a cache and a denoiser trained on them."""
    tiny = {
        "name": "same-autoencoder",
        "data": {
            "source": {"kind": "shapes", "length": 40, "two_shapes": 0},
            "transform": {"size_px": 16, "flip": 0.5},
            "workers": 0,
        },
        "network": {"in_channels": 3, "latent_channels": 4, "widths": [8, 8], "groups": 4},
        "loss": {"scales": 2},
        "training": recipe_of("dit")["training"] | {"micro_batch_size": None},
        "held_out": {"pictures": 6, "shown": 3},
    }
    latent = recipe_of("dit", autoencoder={"kind": "kl", "path": f"{WHOLE}/autoencoder", "channels": 4, "factor": 2})
    latent["data"]["views"] = 2
    latent["cache"] = {"path": "caches/latents", "shard_mb": 0.01}
    latent["denoiser"]["patch"] = 2
    latent.pop("held_out")
    arguments = ("autoencoder", "train", "autoencoder.yaml", "--out")
    steps = (
        _step(*arguments, WHOLE),
        Step((*arguments, KILLED, "--json"), KILL_AT, KILLED),
        _step("data", "stats", "recipe.yaml"),
        _step("encode", "recipe.yaml"),
        _step("train", "recipe.yaml", "--out", "runs/latent"),
        sample("runs/latent", "runs/latent/drawn/0001"),
    )
    again = (
        sample("runs/latent", "runs/latent/drawn/0002"),
        _step("train", "recipe.yaml", "training.samples=64", "--out", "runs/latent"),
        _step(*arguments[:-1], "training.samples=64", "--out", WHOLE),  # last: the latents above are of the one before
    )
    files = {"autoencoder.yaml": tiny, "recipe.yaml": latent}
    return Case("autoencoder", steps, files, again, (WHOLE, KILLED))


def stages_case() -> Case:
    """Two stages, the second at another size and with classes; and a transfer of what they end with."""
    content = recipe_of("mmdit")
    content["training"] |= {"samples": 24, "checkpoint_every_samples": 8}
    view = {"size_px": 32, "crop": {"kind": "local", "scale_px": 40}}
    large = {
        "data": {"transform": view},
        "conditioning": {"semantic": {"kind": "class"}},
    }
    content["stages"] = [{"name": "small"}, {"name": "large", **large}]
    resized = recipe_of("mmdit")
    resized["data"]["transform"] |= view
    steps = (
        _step("train", "recipe.yaml", "--dry-run"),
        train(),
        _step("sample", WHOLE, "size=8x8", "--class", "red square"),
        _step("transfer", f"{WHOLE}/stages/1-small", "resized.yaml", "--out", "runs/moved"),
    )
    again = (_step("train", "recipe.yaml", "stages.large.training.samples=40", "--out", WHOLE),)
    return Case("stages and transfer", steps, {"recipe.yaml": content, "resized.yaml": resized}, again)


def published_case() -> Case:
    """Weights written for diffusers."""
    content = recipe_of("dit", conditioning={"semantic": {"kind": "class", "route": "modulation"}, "controls": []})
    return Case("export", (train(), _step("export", WHOLE, "--out", "exported")), {"recipe.yaml": content})


def tables_case() -> Case:
    """What is told without training."""
    steps = (
        _step("models"),
        _step("inspect", "schedule", "recipe.yaml", "process.resolution={from_px: 32, to_px: 16}", "--out", "inspected"),
        _step("train", "recipe.yaml", "--dry-run"),
        _step("data", "survey", "recipe.yaml"),
        _step("recipes"),
        _step("study", "list"),
        _step("study", "size-grid", "--dry-run"),
    )
    return Case("tables", steps, {"recipe.yaml": recipe_of("mmdit")})


def study_case() -> Case:
    """Two arms of a study with a tiny network."""
    network = "denoiser=" + json.dumps({"kind": "mmdit", **DENOISERS["mmdit"]})
    changes = ("data.source.length=100", "training.samples=32", "data.workers=0", network)
    return Case("study", (_step("study", "token-influence", *changes, "--only", "zero", "--only", "mask", "--out", "study"),))


def train(*, killed: bool = False) -> Step:
    """The recipe of the case."""
    run = KILLED if killed else WHOLE
    return Step(("train", "recipe.yaml", "--out", run, "--json"), KILL_AT if killed else None, run)


def sample(run: str, out: str) -> Step:
    """Two prompts and controls, with guidance towards both."""
    prompts = ("--prompt", "a large red circle on the left", "--prompt", "a small blue square on the right")
    scales = ("--semantic-scale", "3", "--control-scale", "1.5")
    return _step("sample", run, "size=8x12", "flip=1", *prompts, "--seed", "3", "--count", "2", *scales, "--out", out)


def evaluate(run: str, control: str = "size") -> Step:
    """Every kind of metric that needs no download."""
    extractor = ("--extractor", "random", "--extractor", "{kind: random, network: {size_px: 16, width: 8, dim: 6}}")
    metrics = ("--metrics", "fid,kid,control_influence,held_out_loss", "--n", "12", "--cache", "caches/references")
    changes = ("metrics.control_influence.pictures=2", f"metrics.control_influence.control={control}")
    return _step("evaluate", run, *extractor, *metrics, *changes, "metrics.kid.subset_size=10")


def again() -> tuple[Step, ...]:
    """Old run folders: sampled as they are, and trained further."""
    return sample(KILLED, f"{KILLED}/drawn/0001"), longer()


def longer() -> Step:
    """The recipe of the case goes on from its last checkpoint."""
    return _step("train", "recipe.yaml", "training.samples=64", "--out", WHOLE)


def _step(*arguments: str) -> Step:
    return Step((*arguments, "--json"))
