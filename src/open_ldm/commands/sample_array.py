"""`ldm sample RUN --npz`: many pictures as one array file for FID programs, in parts, so that a stopped command goes on.

A folder holds samples.json, which says what is sampled and how, parts/NUMBER.npy until all are there, and then samples.npz.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from open_ldm.checkpoints.names import run_folder_of
from open_ldm.commands.array_file import write_npz
from open_ldm.commands.guide import guide_record, guided_run
from open_ldm.commands.sample import check_kind, check_negative, classes_of, sample_pixels
from open_ldm.commands.sample_options import SampleOptions, checked_settings
from open_ldm.commands.samples import SAMPLES, refuse_others
from open_ldm.commands.shape import run_of_shape
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, TextSemantic
from open_ldm.core.counted import counted
from open_ldm.core.display import as_shown
from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.events import Progress
from open_ldm.core.files import read_json_object, remove_temporary_files, write_bytes, write_json
from open_ldm.core.hashes import hash_content, hash_tensors
from open_ldm.core.seeds import key
from open_ldm.core.signals import StopRequest
from open_ldm.run_folder.own_folder import require_no_run
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.requests import SampleRequest, label_of
from open_ldm.sources.array_pictures import ARRAY_FILE

FILE, _PARTS = ARRAY_FILE, "parts"
_OTHER = {
    "samples_seen": "another checkpoint",
    "weights": "other weights",
    "sampling": "other sampling settings",
    "negative_prompt": "another negative prompt",
    "guide": "another guide",
    "array": "another number or size of pictures",
    "seed": "another seed",
    "labels": "another choice of --labels",
    "controls": "other controls",
    "shows": "other classes or prompts",
}
_PART_PICTURES = 32
Labels = Literal["equal", "random"]


@dataclass(frozen=True)
class ArrayPlan:
    """What is sampled: picture i has seed `seed` + i and shows one of `shown`, whatever the processes or interruptions.

    `labels`: equal takes `shown` in turn, so that their counts differ by one at most; random draws one by the picture's seed.
    """

    count: int
    seed: int
    labels: Labels
    shown: tuple[str | None, ...]
    options: SampleOptions
    settings: SamplingConfig
    size_px: tuple[int, int]

    @property
    def part_pictures(self) -> int:
        """Pictures in a part: whole batches, so that a picture is computed beside the same others every time."""
        return self.settings.batch_size * -(-_PART_PICTURES // self.settings.batch_size)

    @property
    def parts(self) -> int:
        """Number of parts; only the last may be short."""
        return -(-self.count // self.part_pictures)

    def requests_of(self, part: int) -> list[SampleRequest]:
        """Return the requests of one part."""
        start = part * self.part_pictures
        return [self.request(i) for i in range(start, min(start + self.part_pictures, self.count))]

    def request(self, i: int) -> SampleRequest:
        """Return the request of picture i."""
        seed = self.seed + i
        number = i if self.labels == "equal" else key(seed, "sampled label")
        return SampleRequest(seed, self.shown[number % len(self.shown)], self.options.controls)

    def to_json(self, run: LoadedRun) -> dict[str, Any]:
        """Return what makes these pictures, as plain data."""
        return {
            "samples_seen": run.samples_seen,
            "weights": hash_tensors(run.model.state_dict()),
            "sampling": self.settings.model_dump(mode="json"),
            "negative_prompt": self.options.negative_prompt,
            **({} if (guide := guide_record(run, self.options.guide)) is None else {"guide": guide}),
            "array": [self.count, *self.size_px, 3],
            "seed": self.seed,
            "labels": self.labels,
            "controls": dict(self.options.controls),
            "shows": list(self.shown),
        }


@dataclass(frozen=True)
class SampledArray:
    """The file that was written, and how. `leads`: whether this process is the one that wrote it."""

    folder: Path
    count: int
    size_px: tuple[int, int]
    labels: str
    leads: bool = True

    @property
    def file(self) -> Path:
        """The array file."""
        return self.folder / FILE

    def sentence(self) -> str:
        """One line for people."""
        height, width = self.size_px
        return (
            f"{counted(self.count, 'picture')} in {self.file}: arr_0 uint8 [{self.count}, {height}, {width}, 3]; {self.labels}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        shape = [self.count, *self.size_px, 3]
        return {"folder": str(self.folder), "array": str(self.file), "shape": shape, "labels": self.labels}


def sample_array(
    run: LoadedRun,
    options: SampleOptions,
    labels: Labels | None = None,
    out: Path | None = None,
    *,
    silent: bool = False,
) -> SampledArray:
    """Sample `options.count` pictures in all as one array file; under torchrun the processes share them.

    The same command goes on where an earlier one stopped, and gives the same bytes as one that was never stopped (on the same
    device); when the file is there, nothing is done.

    Args:
        run: From `open_run`.
        options: Prompts or classes (without any: every class of the model), controls, the first seed and settings.
        labels: How each picture's class or prompt is chosen; None is random for classes, and in turn for prompts.
        out: Where to; None is RUN/drawn/array-HASH, a folder for each choice of settings.
        silent: Show no progress.

    Returns:
        The file.

    Raises:
        ConfigError: The options do not fit the model, `out` holds other samples, or the pictures are not grey or RGB.
        StoppedError: A stop signal came (exit code 75); whole parts are kept.
        DiskError: The disk refuses.
    """
    run = guided_run(run_of_shape(run, options.view_size, options.aspect), options.guide)
    with StopRequest() as stop:
        world = join_world(run.machine.device, run.recipe.parallel.timeout_seconds)
        with world.sharing_errors():
            plan = plan_of(run, options, labels)
            content = plan.to_json(run)
            world.agreed("what is sampled", content)
            folder = out or run_folder_of(run.path) / "drawn" / f"array-{hash_content(content)[:8]}"
            world.everyone(partial(_begin, run, options, folder, content), "the first files")
            world.require_shared(folder)
            if not world.gathered((folder / FILE).is_file(), "the array file")[0]:
                _sample_parts(run, plan, folder, world, stop, silent=silent or not world.leads)
                world.barrier("the last part")
            world.everyone(partial(_finish, plan, folder), "the array file")
    return SampledArray(folder, plan.count, plan.size_px, _words(plan), world.leads)


def _begin(run: LoadedRun, options: SampleOptions, folder: Path, content: dict[str, Any]) -> None:
    """Refuse a folder of other samples, and write what is sampled."""
    _require_same(folder, content)
    _warn_of_cut_prompts(run, options.prompts)
    write_json(folder / SAMPLES, {"run": str(run.path), "passed_over": list(run.problems), **content})
    remove_temporary_files(folder)
    remove_temporary_files(folder / _PARTS)


def _finish(plan: ArrayPlan, folder: Path) -> None:
    """Write the array file from its parts where it is not there yet, and remove them."""
    if not (folder / FILE).is_file():
        write_npz(folder / FILE, (plan.count, *plan.size_px, 3), _read_parts(folder, plan))
    shutil.rmtree(folder / _PARTS, ignore_errors=True)


def plan_of(run: LoadedRun, options: SampleOptions, labels: Labels | None = None) -> ArrayPlan:
    """Check the options and settle what is sampled; arguments and errors as `sample_array`."""
    if options.sweep is not None:
        raise ConfigError("--sweep makes a table", needed="--prompts FILE, --prompt or --class beside --npz")
    channels = run.recipe.data.channels
    if channels not in (1, 3) and run.recipe.data.display is None:
        raise ConfigError(f"FID programs read RGB, and these pictures have {channels} channels", fix="leave --npz out")
    settings = checked_settings(run, options)
    if options.negative_prompt is not None:
        check_negative(run, options.negative_prompt, settings)
    shown = _shown(run, options.prompts, classes_of(run, options))
    if labels is None:
        labels = "equal" if options.prompts else "random"
    view = run.known.facts.view
    return ArrayPlan(options.count, options.seed, labels, shown, options, settings, (view.height_px, view.width_px))


def _shown(run: LoadedRun, prompts: Sequence[str], classes: Sequence[str]) -> tuple[str | None, ...]:
    """Return what pictures are of: the prompts, or the classes, by default all; every one is checked before any is sampled."""
    check_kind(run, prompts, classes)
    facts = run.known.facts
    match run.recipe.conditioning.semantic:
        case NoSemantic():
            return (None,)
        case ClassSemantic():
            return tuple(facts.class_names[label_of(name, facts)] for name in classes or facts.class_names)
        case TextSemantic():
            if not prompts or run.text_encoder is None:
                raise ConfigError("--npz has nothing to sample", needed="captions", fix="--prompts FILE, one caption a line")
            for prompt in prompts:
                run.text_encoder.check_prompt(prompt)
            return tuple(prompts)


def _sample_parts(run: LoadedRun, plan: ArrayPlan, folder: Path, world: World, stop: StopRequest, *, silent: bool) -> None:
    """Sample this process's share of the parts that are missing."""
    here = [part for part in range(plan.parts) if not _part_file(folder, part).is_file()]
    missing = world.gathered(here, "parts that are missing")[0][world.rank :: world.size]
    total = sum(len(plan.requests_of(part)) for part in missing)
    done = 0
    with Progress(total, label="sample", unit="pictures", silent=silent) as progress:
        for part in missing:
            stop.raise_if_requested()
            pixels = sample_pixels(run, plan.requests_of(part), plan.settings, negative=plan.options.negative_prompt)
            buffer = io.BytesIO()
            np.save(buffer, _rgb(pixels, run.recipe.data.display), allow_pickle=False)
            write_bytes(_part_file(folder, part), buffer.getvalue())
            done += len(pixels)
            progress.update(done)


def _read_parts(folder: Path, plan: ArrayPlan) -> Iterator[NDArray[np.uint8]]:
    for part in range(plan.parts):
        file = _part_file(folder, part)
        try:
            yield np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{file} cannot be read ({error})", fix="remove it and run the same command again") from error


def _part_file(folder: Path, part: int) -> Path:
    return folder / _PARTS / f"{part:06d}.npy"


def _rgb(pixels: Tensor, display: Sequence[int] | None) -> NDArray[np.uint8]:
    """Pixels uint8 [B, C, H, W] -> [B, H, W, 3]; grey is repeated."""
    seen = as_shown(pixels, display)
    rgb: NDArray[np.uint8] = seen.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return rgb


def _require_same(folder: Path, content: dict[str, Any]) -> None:
    """Raise ConfigError where a folder is that of a run, or holds other files, or samples of other settings or weights."""
    require_no_run(folder, "samples")
    refuse_others(folder)
    if not (folder / SAMPLES).is_file():
        return
    there = read_json_object(folder / SAMPLES)
    if differing := [name for name, value in content.items() if there.get(name) != value]:
        raise ConfigError(
            f"{folder} holds samples made with {_OTHER[differing[0]]}", needed="an empty folder", fix="choose another --out"
        )


def _words(plan: ArrayPlan) -> str:
    if plan.shown == (None,):
        return "without class or prompt"
    how = "taken in turn" if plan.labels == "equal" else "drawn at random"
    return f"{counted(len(plan.shown), 'class or prompt', 'classes or prompts')}, {how}"


def _warn_of_cut_prompts(run: LoadedRun, prompts: Sequence[str]) -> None:
    """Say on standard error how many prompts are too long for the text encoder."""
    if run.text_encoder is None or not prompts:
        return
    cut = [prompt for prompt, is_cut in zip(prompts, run.text_encoder.cut(prompts), strict=True) if is_cut]
    if cut:
        are = "is" if len(cut) == 1 else "are"
        long = f"{counted(len(cut), 'caption')} {are} too long for the text encoder and {are} cut, the first: {cut[0]!r}"
        print(f"warning: {long}", file=sys.stderr)
