"""A survey of a data set from headers alone: sizes, aspect ratios, classes, captions, first bad samples.

A few pictures are decoded only where a source has its own channels, since nothing else shows whether they use their range, and
where something is to be measured of their pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from open_ldm.core.counted import counted
from open_ldm.core.errors import DataError
from open_ldm.core.seeds import key
from open_ldm.core.shown import ShownAsText
from open_ldm.data.bucket_shapes import Shape
from open_ldm.data.buckets import Buckets, assign
from open_ldm.data.column_survey import ColumnSurvey, Quantiles, quantiles, survey_columns, unused_columns
from open_ldm.data.columns import columns_of
from open_ldm.data.decoded import Decoded, decode_all
from open_ldm.data.holdout import Groups, HoldoutConfig, divide
from open_ldm.data.measures import Measure, measure
from open_ldm.data.sample import BadPicture, BadSample, Source
from open_ldm.data.transforms import LocalCrop, TransformConfig

_EXAMPLES = 8
_DECODED = 16
_MEASURED = 64
ALL_CAPTIONS_OF, _CAPTIONED = 1_000_000, 20_000
EXAMPLES_OF = 100_000
"""Of more samples than this, examples of captions are looked for among some of them."""
_DARK = 64
_MUCH_THROWN_AWAY = 0.05


@dataclass(frozen=True)
class Measured:
    """One measure of `pictures` examined ones: `quantiles`, None where all are unknown, and for how many it is `unknown`."""

    quantiles: Quantiles | None
    unknown: int
    pictures: int


@dataclass(frozen=True)
class DataSurvey(ShownAsText):
    """Statistics over samples that are spread evenly over a data set.

    Attributes:
        sentence: The source's summary.
        pictures: Number of pictures of the data set.
        examined: Number of samples that were examined.
        height_px: Original heights in pixels.
        width_px: Original widths in pixels.
        short_side_px: Original short sides in pixels.
        aspect_ratio: Width / height.
        class_counts: Examined samples by class; empty for a source without classes.
        example_captions: A few different captions.
        bad: Samples that cannot be used.
        reach: For each channel the value, 0 to 255, that 99.9 % of the pixels stay below in each of 16 pictures; empty for RGB.
        decoded: Number of pictures that were decoded to find damage; 0 where only headers were read.
        content: What decoding them showed; None where only headers were read.
        measured: What was measured of 64 pictures, by name (data/measures.py); empty unless it was asked for.
        columns: Columns of metadata that controls read, by name.
        unused: Names of columns that nothing reads.
        groups: How groups of pictures are divided, where they are held out by a column.
        buckets: The shapes of views of those examined, where they are cut in buckets.
        thrown_away: Share of a picture's pixels that views of one shape leave out, in the mean; None where it was not asked.
        refusal: Why a training would refuse these data; empty where it would not, or where it was not asked.
    """

    sentence: str
    pictures: int
    examined: int
    height_px: Quantiles
    width_px: Quantiles
    short_side_px: Quantiles
    aspect_ratio: Quantiles
    class_counts: Mapping[str, int]
    example_captions: tuple[str, ...]
    bad: tuple[BadSample, ...]
    reach: tuple[int, ...] = ()
    decoded: int = 0
    measured: Mapping[Measure, Measured] = field(default_factory=dict)
    content: Decoded | None = None
    columns: Mapping[str, ColumnSurvey] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    groups: Groups | None = None
    buckets: Buckets | None = None
    thrown_away: float | None = None
    refusal: str = ""

    @property
    def said(self) -> str:
        """The sentence, and lines that tell of buckets and name columns that nothing reads."""
        shapes = "" if self.buckets is None else self.buckets.sentence()
        return "\n".join(filter(None, [self.sentence, shapes, unused_columns(self.unused)]))

    def few(self, batch_size: int) -> tuple[str, ...]:
        """Return a line that names buckets with fewer pictures than a batch, or none."""
        return () if self.buckets is None else self.buckets.small(batch_size)

    def problems(self) -> list[str]:
        """Return warnings: what training refuses, dark channels, dropped controls, and a hold-out that leaves a side empty."""
        of_columns = [problem for name, found in self.columns.items() for problem in found.problems(name)]
        sides = self.groups.problems() if self.groups else []
        content = self.content.problems() if self.content else ()
        refused = [f"training refuses this: {self.refusal}"] if self.refusal else []
        return [*refused, *self._dark_channels(), *self._unknown(), *of_columns, *sides, *content]

    def _unknown(self) -> list[str]:
        return [
            f"{name} is unknown for {found.unknown} of {found.pictures} pictures: for such ones the control is dropped"
            for name, found in self.measured.items()
            if found.unknown
        ]

    def _dark_channels(self) -> list[str]:
        dark = [channel for channel, reach in enumerate(self.reach) if reach < _DARK]
        if not dark:
            return []
        most = max(self.reach[channel] for channel in dark)
        use = f"channel {', '.join(map(str, dark))}: at most {most} of 255 is used"
        return [f"{use}; for a 12-bit camera, say, set data.source.channel_range=[[0, 4095]], or one pair for each channel"]

    def text(self) -> str:
        """Write the survey for people: the sentence, a table of sizes, classes and captions, and bad samples."""
        shares = ("0 %", "5 %", "25 %", "50 %", "75 %", "95 %", "100 %")
        whole = f"{self.decoded - len(self.bad):,} of " if self.bad else ""
        examined = f"{whole}{self.decoded:,} decoded" if self.decoded else f"{self.examined:,} examined"
        lines = [f"{self.sentence}; {examined}", f"{'':<14}" + "".join(f"{share:>9}" for share in shares)]
        for name in ("height_px", "width_px", "short_side_px", "aspect_ratio"):
            values = asdict(getattr(self, name)).values()
            lines.append(f"{name:<14}" + "".join(f"{value:>9g}" for value in values))
        for name, found in self.measured.items():
            shown = [f"{value:>9.4g}" for value in asdict(found.quantiles).values()] if found.quantiles else [" unknown"]
            lines.append(f"{name:<14}{''.join(shown)}  of {found.pictures}")
        lines += [f"{name:<14}{found.words()}" for name, found in self.columns.items()]
        if self.class_counts:
            counts = self.class_counts.values()
            classes = counted(len(counts), "class", "classes")
            lines.append(f"{classes} of {min(counts):,} to {max(counts):,} pictures, of those examined")
        lines += self.content.text() if self.content else []
        if self.reach:
            lines.append(f"{'channels reach':<14}" + "".join(f"{value:>9}" for value in self.reach) + "  of 255")
        lines += [f"held out {self.groups.sentence()}"] if self.groups else []
        lines += filter(None, [unused_columns(self.unused)])
        lines += [] if self.buckets is None else self.buckets.table()
        if (lost := self.thrown_away or 0.0) >= _MUCH_THROWN_AWAY:
            lines.append(f"the crop throws away {100 * lost:.0f} % of a picture's pixels; see data.transform.buckets")
        lines += [f"warning: {problem}" for problem in self.problems()]
        lines += [f"caption: {caption}" for caption in self.example_captions]
        lines += [f"bad: {bad.id}: {bad.reason} {bad.detail}".rstrip() for bad in self.bad[:_EXAMPLES]]
        more = len(self.bad) - _EXAMPLES
        return "\n".join(lines + ([f"bad: {more:,} more"] if more > 0 else []))

    def to_json(self) -> dict[str, Any]:
        """Return plain data with the same names; quantiles of what was measured stand beside those of sizes."""
        content = asdict(replace(self, buckets=None))
        content.pop("content")
        if self.content is None:
            content.pop("decoded")
        else:
            content["files"] = self.content.to_json()
        for name in ("columns", "unused", "groups", "buckets", "thrown_away", "refusal"):
            if not content[name]:
                content.pop(name)
        measured = content.pop("measured")
        content |= {} if self.buckets is None else self.buckets.to_json()
        return {**content, **{name: found["quantiles"] for name, found in measured.items()}}


def survey(
    source: Source,
    limit: int = 2000,
    measures: Sequence[Measure] = (),
    *,
    decode: bool = False,
    columns: Mapping[str, Sequence[str] | None] | None = None,
    holdout: HoldoutConfig | None = None,
    transform: TransformConfig | None = None,
) -> DataSurvey:
    """Examine samples of a data set without decoding RGB pictures, unless something is measured of them or `decode` is set.

    Args:
        source: The data set.
        limit: Largest number of samples, which `spread` chooses.
        measures: What to measure of at most 64 pictures.
        decode: Decode every picture as well, which alone finds damage behind the header.
        columns: Columns of metadata that controls read, each with the words that its control lists, or None.
        holdout: How pictures of this source are held out; None where it is a part already.
        transform: How views are cut, to tell what that throws away.

    Raises:
        DataError: The data set is empty, or none of the samples has a readable header.
    """
    chosen = spread(len(source), limit)
    bad: list[BadSample] = []
    sizes = _sizes(source, chosen, bad)
    content = decode_all(source) if decode else None
    if content is not None:
        bad = list(content.bad)
    if not sizes:
        why = f"{bad[0].reason} {bad[0].detail}".rstrip() if bad else ""
        reasons = f", the first one: {bad[0].id} ({why})" if bad else ""
        raise DataError(f"none of {len(chosen):,} samples can be read{reasons}", needed="readable pictures")
    heights, widths = np.array(sizes, dtype=np.float64).T
    captions = list(dict.fromkeys(some_captions(source, EXAMPLES_OF)))
    groups = getattr(source, "groups", None) if holdout is None else divide(source, holdout)[1]
    return DataSurvey(
        sentence=source.summary.sentence(),
        pictures=len(source),
        examined=len(chosen),
        height_px=quantiles(heights),
        width_px=quantiles(widths),
        short_side_px=quantiles(np.minimum(heights, widths)),
        aspect_ratio=quantiles(widths / heights),
        class_counts=_class_counts(source, chosen),
        example_captions=tuple(captions[index] for index in spread(len(captions), _EXAMPLES)),
        bad=tuple(bad),
        reach=_reach(source) if source.summary.channels else (),
        decoded=len(source) if decode else 0,
        content=content,
        measured=_measured(source, measures) if measures else {},
        columns=survey_columns(source, columns or {}),
        unused=columns_of(source).unused([*(columns or {}), *([groups.by] if groups else [])]),
        groups=groups,
        **_cut(sizes, transform),
    )


def _sizes(source: Source, chosen: Sequence[int], bad: list[BadSample]) -> list[Shape]:
    """Read (height, width) of the chosen pictures; those whose header cannot be read are added to `bad`."""
    sizes = []
    for index in chosen:
        try:
            sizes.append(source.size_of(index))
        except BadPicture as verdict:
            bad.append(BadSample(source.sample_id(index), verdict.reason, verdict.detail))
    return sizes


def _cut(sizes: Sequence[Shape], transform: TransformConfig | None) -> dict[str, Any]:
    """What a transform does to pictures of these sizes."""
    if transform is None or isinstance(transform.crop, LocalCrop):
        return {}
    if transform.buckets is not None:
        return {"buckets": assign(sizes, transform.shapes, transform.base)}
    return {"thrown_away": assign(sizes, [transform.base], transform.base).thrown_away}


def spread(length: int, limit: int) -> list[int]:
    """Choose at most `limit` indices below `length`: one drawn from each of `limit` equal stretches, always the same ones.

    They are drawn because a constant step could meet only every tenth class of a data set whose classes alternate.
    """
    count = min(length, limit)
    edges = [index * length // count for index in range(count)] + [length] if count else []
    stretches = enumerate(itertools.pairwise(edges))
    return [start + key(0, "survey", index) % (end - start) for index, (start, end) in stretches]


def some_captions(source: Source, all_of: int = ALL_CAPTIONS_OF) -> list[str]:
    """Return all captions of a source; of more than `all_of` samples, those of 20,000 that are spread over it.

    Where none of these has one, all are asked for: a cache without its pictures keeps a few, of no sample in particular.
    """
    if len(source) <= all_of:
        return source.captions()
    found = [caption for index in spread(len(source), _CAPTIONED) for caption in source.captions_of(index)]
    return found or source.captions()


def _class_counts(source: Source, chosen: Sequence[int]) -> dict[str, int]:
    if not source.class_names:
        return {}
    counts = dict.fromkeys(source.class_names, 0)
    for index in chosen:
        label = source.label_of(index)
        if label is not None:
            counts[source.class_names[label]] += 1
    return counts


def _reach(source: Source) -> tuple[int, ...]:
    reached = []
    for index in spread(len(source), _DECODED):
        with suppress(BadPicture):
            pixels = source[index].pixels
            reached.append(np.quantile(pixels, 0.999, axis=(0, 1)) * (255 / np.iinfo(pixels.dtype).max))
    return tuple(round(float(value)) for value in np.max(reached, axis=0)) if reached else ()


def _measured(source: Source, names: Sequence[Measure]) -> dict[Measure, Measured]:
    rows: list[Mapping[Measure, float]] = []
    for index in spread(len(source), _MEASURED):
        with suppress(BadPicture):
            rows.append(measure(source[index], names))
    found: dict[Measure, Measured] = {}
    for name in names:
        values = np.array([row[name] for row in rows], dtype=np.float64)
        known = values[~np.isnan(values)]
        found[name] = Measured(quantiles(known) if len(known) else None, len(values) - len(known), len(values))
    return found
