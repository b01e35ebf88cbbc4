"""The pictures to measure: sampled from a run as they are needed, or read from a folder or shards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from open_ldm.commands.evaluate.config import EvaluationConfig, changed
from open_ldm.commands.evaluate.reference import open_against
from open_ldm.commands.evaluate.stored_pictures import open_pictures
from open_ldm.commands.shape import run_of_shape
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, TextSemantic
from open_ldm.core.config import validate
from open_ldm.core.device import DeviceName
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError, shortened
from open_ldm.core.pictures import to_pixels
from open_ldm.data.bucket_shapes import words_of
from open_ldm.data.holdout import Part, PartName
from open_ldm.data.sample import BadPicture, Source
from open_ldm.data.transforms import CenterCrop, TransformConfig, transform
from open_ldm.evaluation.pictures import Pictures, pictures_of
from open_ldm.evaluation.protocol import sampling_of
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.runs.on_the_way import shown_as_in
from open_ldm.runs.shapes import buckets_of
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import open_data

_SAMPLED, _READ = 1000, 50_000
"""Pictures where no number is given: sampled from a run, and of given ones at most, as many as published FID values rest on."""


class EvaluatedPictures(Protocol):
    """Pictures to measure. `size_px` (height, width); `sampling`: how they were sampled, in words, for protocols;
    `display`: which channels people are shown (core/display.py)."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def sampling(self) -> Mapping[str, str] | None:
        """How they were sampled, in words, for protocols; None where nobody sampled them."""

    @property
    def display(self) -> tuple[int, int, int] | None:
        """The channels that people are shown (core/display.py); None shows them as they are."""

    def __len__(self) -> int: ...

    def batches(self, world: World, skip: int = 0) -> Iterator[Pictures]:
        """This process's share, each picture once, without the first `skip` batches of it."""

    def pixels(self, numbers: Sequence[int]) -> Tensor:
        """Single pictures by their number, uint8 [B, N, H, W]."""


@dataclass(frozen=True)
class SampledPictures:
    """Pictures sampled from a run. Picture i, and its class or caption (those of picture i of the shuffled `data`), depend on
    seed i alone: they are those of the reference's picture i. `equal_labels`: class i of the data, counted round, instead.
    `readable_only`: in place of a caption that the run cannot read, another one of the data that it can."""

    run: LoadedRun
    settings: SamplingConfig
    seeds: range
    controls: Mapping[str, str]
    data: Source
    equal_labels: bool = False
    readable_only: bool = False

    def __post_init__(self) -> None:
        semantic, words = self.run.recipe.conditioning.semantic, self.data.summary.sentence()
        if self.equal_labels and not isinstance(semantic, ClassSemantic):
            raise ConfigError(f"labels=equal has no effect on a run of {semantic.kind}", fix="leave it out")
        if self.readable_only and self.run.text_encoder is None:
            raise ConfigError(f"captions=readable has no effect on a run of {semantic.kind}", fix="leave it out")
        if isinstance(semantic, ClassSemantic) and not self.data.class_names:
            raise ConfigError(f"the run needs classes, but the data has none ({words})", fix="--against data with classes")
        if isinstance(semantic, TextSemantic) and not self.data.summary.captioned:
            raise ConfigError(f"the run needs captions, but the data has none ({words})", fix="--against data with captions")
        known = self.run.known.facts.class_names
        if isinstance(semantic, ClassSemantic) and (new := [name for name in self.data.class_names if name not in known]):
            raise ConfigError(f"the data has classes the run does not know: {shortened(new)}", needed=shortened(known))
        # A request that the run cannot fulfil must fail before anything is measured.
        self._check_captions()
        self.run.build_inputs([self.request(self.seeds[0])])

    @property
    def size_px(self) -> tuple[int, int]:
        """Of the run's pictures."""
        view = self.run.known.facts.view
        return view.height_px, view.width_px

    @property
    def display(self) -> tuple[int, int, int] | None:
        """As the recipe says."""
        return self.run.recipe.data.display

    @property
    def sampling(self) -> Mapping[str, str]:
        """Seeds, solver, steps, scales, controls, where conditions come from, and which latents the model was trained on."""
        words = sampling_of(self.settings, self.seeds)
        words["controls"] = ", ".join(f"{name}={value}" for name, value in sorted(self.controls.items())) or "defaults"
        words["conditions"] = self._conditions()
        words["latents"] = self.run.recipe.autoencoder.trained_on
        if isinstance(self.run.recipe.conditioning.semantic, ClassSemantic):
            words["labels"] = "equal counts" if self.equal_labels else "at random"
        if self.readable_only:
            words["captions"] = f"the {len(self._readable):,} that the run can read, of {len(self.data):,}"
        return words

    def __len__(self) -> int:
        return len(self.seeds)

    def batches(self, world: World, skip: int = 0) -> Iterator[Pictures]:
        """This process's share of the seeds."""
        for seeds in itertools.islice(self.portions(self.seeds, world), skip, None):
            requests = [self.request(seed) for seed in seeds]
            captions = None
            if isinstance(self.run.recipe.conditioning.semantic, TextSemantic):
                captions = tuple(request.shows or "" for request in requests)
            yield Pictures(self.images(requests), tuple(seeds), captions)

    def portions(self, seeds: range, world: World) -> Iterator[range]:
        """This process's share of some seeds, a batch at a time."""
        size = self.settings.batch_size
        for start in range(world.rank * size, len(seeds), world.size * size):
            yield seeds[start : start + size]

    def pixels(self, numbers: Sequence[int]) -> Tensor:
        """Sample single pictures again."""
        return to_pixels(self.images([self.request(seed) for seed in numbers]))

    def images(self, requests: Sequence[SampleRequest]) -> Tensor:
        """Float images [B, N, H, W] of the requests."""
        return self.run.generator.images(self.run.build_inputs(requests), [request.seed for request in requests], self.settings)

    def request(self, seed: int, **controls: str) -> SampleRequest:
        """Return the request for a seed; `controls` replace those of all pictures."""
        return SampleRequest(seed, self._shows(seed), {**self.controls, **controls})

    def _check_captions(self) -> None:
        """Raise ConfigError for a caption that the run cannot read, such as a name of the held-out part with a new word."""
        for seed in self.seeds:
            if (error := self._refused(self._shows(seed) or "")) is not None:
                fix = "pictures whose captions the run can read: --part train, another --against"
                if self.readable_only:
                    raise ConfigError(f"the run can read none of {len(self.data):,} captions", needed=error.needed, fix=fix)
                fix = f"captions=readable, or {fix}"
                raise ConfigError(error.problem, needed=error.needed, fix=fix) from error

    def _refused(self, caption: str) -> ConfigError | None:
        if self.run.text_encoder is None:
            return None
        try:
            self.run.text_encoder.check_prompt(caption)
        except ConfigError as error:
            return error
        return None

    @cached_property
    def _readable(self) -> list[str]:
        """The captions that the run can read, in the order of the shuffled data."""
        shown = [self._in_data(seed) or "" for seed in range(len(self.data))]
        return [caption for caption in shown if self._refused(caption) is None]

    def _shows(self, seed: int) -> str | None:
        if self.equal_labels:
            return self.data.class_names[seed % len(self.data.class_names)]
        shown = self._in_data(seed)
        if not (self.readable_only and self._readable) or self._refused(shown or "") is None:
            return shown
        return self._readable[seed % len(self._readable)]

    def _in_data(self, seed: int) -> str | None:
        return shown_as_in(self.data, self.run.recipe.conditioning.semantic, seed)

    def _conditions(self) -> str:
        semantic = self.run.recipe.conditioning.semantic
        if isinstance(semantic, NoSemantic):
            return "none"
        hashes = self.data.hashes
        return f"{semantic.kind} {hashes.labels if isinstance(semantic, ClassSemantic) else hashes.captions}"


@dataclass(frozen=True)
class GivenPictures:
    """The first `count` pictures of a source, brought to `size_px` (height, width)."""

    source: Source
    count: int
    size_px: tuple[int, int]
    sampling: None = None
    display: None = None

    def __len__(self) -> int:
        return min(self.count, len(self.source))

    @property
    def left_out(self) -> str | None:
        """In words, how many pictures are there and not read; None where all are."""
        if (there := len(self.source)) == len(self):
            return None
        return f"the first {len(self):,} of {there:,} pictures are read; --n {there} reads all"

    def batches(self, world: World, skip: int = 0) -> Iterator[Pictures]:
        """This process's share."""
        return pictures_of(self.source, self.size_px, count=self.count, world=world, skip=skip)

    def pixels(self, numbers: Sequence[int]) -> Tensor:
        """Read single pictures again; one that can no longer be read is grey."""
        return torch.stack([picture_of(self.source, number, self.size_px) for number in numbers])


def open_evaluated(
    given: Path, config: EvaluationConfig, data: Source | None, part: PartName, device: DeviceName
) -> SampledPictures | GivenPictures:
    """Open a run to sample from, or stored pictures.

    Args:
        given: A run folder, one checkpoint, a folder of pictures, shards, a table, or a recipe file that reads such.
        config: Settings of the evaluation.
        data: Where classes and captions come from; None takes `part` of the run's own data.
        part: Of data with a holdout.
        device: Where a run is loaded.

    Raises:
        ConfigError: A setting has no effect on what is given.
        DataError: Stored pictures differ in size.
    """
    if is_run(given):
        run = _of_size(load_run(given, device), config.size_px)
        content = changed(run.recipe.sampling.model_dump(mode="json"), config.sampling)
        settings = validate(SamplingConfig, content, source="sampling")
        seeds = range(config.seed, config.seed + (config.n or _SAMPLED))
        shown = _of_bucket(run, open_data(run.recipe.data, part) if data is None else data)
        equal, readable = config.labels == "equal", config.captions == "readable"
        return SampledPictures(run, settings, seeds, config.controls, shown, equal, readable)
    if config.sampling or config.controls or config.seed or config.labels != "random" or config.captions != "all":
        fix = "leave --seed, --control, labels, captions and sampling.* out"
        raise ConfigError(f"{given} holds pictures, not a run", fix=fix)
    source = open_against(given) if given.suffix in (".yaml", ".yml") else open_pictures(given)
    if config.size_px is None:
        return GivenPictures(source, config.n or _READ, _common_size(source))
    height, width = (config.size_px, config.size_px) if isinstance(config.size_px, int) else config.size_px
    return GivenPictures(source, config.n or _READ, (height, width))


def _of_size(run: LoadedRun, size_px: int | tuple[int, int] | None) -> LoadedRun:
    """The run at one of the shapes that it was trained on, the usual one by default. Raises ConfigError for other sizes."""
    if size_px is None:
        return run
    if len(run.shapes) == 1:
        raise ConfigError("size_px has no effect: a run has its own size", fix="leave it out")
    height, width = (size_px, size_px) if isinstance(size_px, int) else size_px
    return run_of_shape(run, f"{height}x{width}", None)


def _of_bucket(run: LoadedRun, data: Source) -> Source:
    """The pictures that training would cut to the shape that the run samples; all where it was trained on one shape."""
    buckets = buckets_of(run.recipe.transform, data)
    if buckets is None:
        return data
    view = run.known.facts.view
    shape = (view.height_px, view.width_px)
    kept = buckets.members[buckets.shapes.index(shape)].tolist()
    if not kept:
        raise DataError(
            f"no picture of the data belongs to the bucket of {words_of(shape)} px", fix="size_px=[HEIGHT,WIDTH] of another one"
        )
    return Part(data, kept, "bucket", f"bucket {words_of(shape)} of {run.recipe.transform.buckets!r}")


def is_run(given: Path) -> bool:
    """Tell whether a path is a run folder or one checkpoint."""
    return (given / "config.yaml").is_file() or (given / "MANIFEST.json").is_file() or (given / "checkpoints").is_dir()


def picture_of(source: Source, index: int, size_px: tuple[int, int]) -> Tensor:
    """One picture as `pictures_of` reads it, uint8 [N, H, W]; grey where it cannot be read."""
    try:
        sample = source[index]
    except BadPicture:
        return torch.full((source.summary.channels or 3, *size_px), 128, dtype=torch.uint8)
    rule = TransformConfig(size_px=size_px, crop=CenterCrop())
    return transform(sample.pixels, (sample.original_height_px, sample.original_width_px), rule, 0, 0).pixels


def _common_size(source: Source) -> tuple[int, int]:
    """Height and width of all pictures that can be read. Raises DataError when they differ or there are none."""
    first: tuple[str, tuple[int, int]] | None = None
    for index in range(len(source)):
        try:
            size = source.size_of(index)
        except BadPicture:
            continue
        if first is None:
            first = (source.sample_id(index), size)
        elif size != first[1]:
            sizes = [f"{name} has {h}x{w} px" for name, (h, w) in (first, (source.sample_id(index), size))]
            raise DataError(
                f"the pictures differ in size: {', '.join(sizes)}",
                needed="pictures of one size",
                fix="size_px=64, or another size",
            )
    if first is None:
        raise DataError(f"no picture can be read ({source.summary.sentence()})", needed="at least one")
    return first[1]
