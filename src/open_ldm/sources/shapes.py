"""Coloured shapes painted on the fly: a data set inside the package with known ground truth for every attribute.

Each picture shows one or two shapes on a light background, at its own original size: the short side is log-uniform in
20..160 px and the aspect ratio 3:4 to 4:3 (or other ranges), so that size, crop, aspect and flip controls vary. With
`entangle` they depend on what the picture shows. Everything about picture i follows from (seed, i).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from open_ldm.core.config import Config
from open_ldm.core.later_settings import without_defaults
from open_ldm.data.entangle import EntangleShapesConfig, RangePart, ViewPreference
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary
from open_ldm.data.shape_wordings import LONGEST, captions_of_length
from open_ldm.data.shape_words import COLOURS, HELD_OUT, KINDS, PLACES, SIZES, Colour, ShapeWords, Size, Told, write_caption
from open_ldm.sources.shape_draws import Draws
from open_ldm.sources.shape_painting import DrawnShape, Scene, draw

_EXTENTS: dict[Size, tuple[float, float]] = {"small": (0.3, 0.34), "large": (0.44, 0.5)}
_DRAWING = 3
"""Number of the rule that paints the pictures; part of the fingerprint."""
_FIRST_SETTINGS = ("kind", "length", "seed", "two_shapes", "split")
"""The others came later: at their defaults they are not written, so that fingerprints stay."""


class ShapesConfig(Config):
    """The settings of the shapes.

    Attributes:
        length: Number of pictures.
        seed: Another seed gives other pictures.
        two_shapes: Share of pictures that show two shapes.
        split: `train` never shows the held-out combinations of colour and kind, `held_out` shows nothing else.
        short_side_px: Range of the short side, which is log-uniform in it.
        colours: The colours that occur.
        extents: The sizes of shapes that occur, as captions name them, with the range of the side of their bounding box as a
            fraction of the picture's short side.
        heights: Range of a shape's middle, from the top, as a fraction of the picture's height, within 0.25 to 0.75,
            where the largest shape stays inside the picture.
        longest_aspect: Ratio of the sides of the longest pictures; 1 makes all of them square.
        background: Range of its grey level.
        untold: What captions and classes do not tell: any of size, colour, kind and place.
        told_too: Every picture has a second caption that tells everything; one of the two is drawn for each view.
        caption_lengths: Numbers of words, 1 to 20. Every picture of one shape then has captions of each of them in the place of
            the usual sentence, and one of all is drawn for each view (data/shape_wordings.py).
        entangle: What about a picture depends on its first shape (data/entangle.py); null leaves all of it independent.
    """

    kind: Literal["shapes"] = "shapes"
    length: int = Field(default=100_000, ge=1)
    seed: int = Field(default=0, ge=0)
    two_shapes: float = Field(default=0.5, ge=0, le=1)
    split: Literal["train", "held_out", "all"] = "train"
    short_side_px: tuple[int, int] = (20, 160)
    colours: tuple[Colour, ...] = COLOURS
    extents: dict[Size, tuple[float, float]] = Field(default=_EXTENTS, min_length=1)
    heights: tuple[float, float] = (0.35, 0.65)
    longest_aspect: float = Field(default=4 / 3, ge=1, le=4)
    background: tuple[int, int] = (222, 252)
    untold: tuple[Told, ...] = ()
    told_too: bool = False
    caption_lengths: tuple[Annotated[int, Field(ge=1, le=LONGEST)], ...] = ()
    entangle: EntangleShapesConfig | None = None

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The sizes of shapes that occur."""
        return tuple(size for size in SIZES if size in self.extents)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The combinations of colour and kind that occur in the split."""
        wanted = {"train": (False,), "held_out": (True,), "all": (True, False)}[self.split]
        every = list(itertools.product(self.colours, KINDS))
        return [pair for held_out in wanted for pair in every if (pair in HELD_OUT) == held_out]

    @model_validator(mode="after")
    def _are_ranges(self) -> ShapesConfig:
        if not 4 <= self.short_side_px[0] <= self.short_side_px[1] <= 4096:
            raise ValueError(f"short_side_px={list(self.short_side_px)}; needed: [low, high] with 4 <= low <= high <= 4096")
        for size, (low, high) in self.extents.items():
            if not 0.2 <= low <= high <= 0.5:
                raise ValueError(f"extents.{size}={[low, high]}; needed: [low, high] with 0.2 <= low <= high <= 0.5")
        if not 0.25 <= self.heights[0] <= self.heights[1] <= 0.75:
            raise ValueError(f"heights={list(self.heights)}; needed: [low, high] with 0.25 <= low <= high <= 0.75")
        if not 200 <= self.background[0] <= self.background[1] <= 255:
            raise ValueError(f"background={list(self.background)}; needed: [low, high] with 200 <= low <= high <= 255")
        return self

    @model_validator(mode="after")
    def _colours_suffice(self) -> ShapesConfig:
        for name in ("colours", "untold", "caption_lengths"):
            given = getattr(self, name)
            if len(set(given)) != len(given):
                raise ValueError(f"{name}={list(given)}; needed: each of them once")
        needed = 2 if self.two_shapes else 1  # the two shapes of a picture differ in colour
        if len({colour for colour, _ in self.pairs}) < needed:
            why = "two_shapes above 0 needs two colours" if needed == 2 else "no combination is left"
            raise ValueError(f"colours={list(self.colours)} with split={self.split}: {why}; needed: more colours")
        return self

    @model_validator(mode="after")
    def _something_is_untold(self) -> ShapesConfig:
        if self.told_too and not self.untold:
            raise ValueError("told_too with captions that tell everything; needed: untold, such as [colour]")
        if self.caption_lengths and (self.two_shapes or self.untold):
            raise ValueError("caption_lengths needs two_shapes=0 and no untold: its short captions leave out facts themselves")
        return self

    @model_validator(mode="after")
    def _there_is_something_to_entangle(self) -> ShapesConfig:
        size = self.entangle.size if self.entangle is not None else None
        if size is not None and len(self._options(size)) < 2:
            raise ValueError(f"entangle.size={size} with colours={list(self.colours)}: only one {size} occurs; needed: two")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), [name for name in type(self).model_fields if name not in _FIRST_SETTINGS])

    def part_of_sizes(self, shape: ShapeWords) -> RangePart | None:
        """Return the part of the log range of short sides that a first shape stands for; None where sizes are independent."""
        if self.entangle is None or self.entangle.size is None or self.entangle.strength == 0:
            return None
        options = self._options(self.entangle.size)
        return RangePart(options.index(getattr(shape, self.entangle.size)), len(options))

    def preference_for(self, shape: ShapeWords) -> ViewPreference | None:
        """Return how the views of a picture with this first shape are to be cut; None where that is independent of it."""
        entangle = self.entangle
        if entangle is None or entangle.strength == 0 or not (entangle.crop or entangle.flip):
            return None
        part = RangePart(PLACES.index(shape.place), len(PLACES)) if entangle.crop else None
        return ViewPreference(entangle.strength, part, shape.place == PLACES[1] if entangle.flip else None)

    def _options(self, attribute: str) -> list[str]:
        """Return the values that an attribute can have, in their order."""
        if attribute == "place":
            return list(PLACES)
        words: Sequence[str] = self.colours if attribute == "colour" else KINDS
        occurring = {pair[attribute == "kind"] for pair in self.pairs}
        return [word for word in words if word in occurring]

    def open(self) -> ShapesSource:
        """Return the source that this config describes."""
        return ShapesSource(self)


class ShapesSource:
    """Random-access data set of shapes. `attributes["shapes"]` of a sample is its tuple of `DrawnShape`."""

    def __init__(self, config: ShapesConfig) -> None:
        self.config = config
        self._pairs = config.pairs
        self._sizes = config.sizes
        self._extents = {str(size): extent for size, extent in config.extents.items()}
        known = [ShapeWords(*pair, "", place) for pair in self._pairs for place in PLACES]
        self._parts = {(words.colour, words.kind, words.place): config.part_of_sizes(words) for words in known}
        told = [ShapeWords(colour, kind, "", "").telling(config.untold) for colour in config.colours for kind in KINDS]
        self._class_names = tuple(dict.fromkeys(words.class_name for words in told if words.class_name))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Colour and kind of the first shape, as far as they are told: 'red circle', ..."""
        return self._class_names

    @property
    def summary(self) -> SourceSummary:
        """What the source contains."""
        shapes = "one or two shapes" if self.config.two_shapes else "one shape"
        layout = f"{shapes} drawn on the fly, split {self.config.split}"
        entangle = self.config.entangle
        if entangle is not None and entangle.strength:
            pairs = [f"{what} by {getattr(entangle, what)}" for what in ("size", "crop", "flip") if getattr(entangle, what)]
            layout += f"; {', '.join(pairs)} in {100 * entangle.strength:g} %"
        return SourceSummary(len(self), len(self._class_names), len(self), layout)

    @property
    def fingerprint(self) -> str:
        """Hash of the config and of the number of the painting rule. To entangle with strength 0 is not to entangle."""
        entangle = self.config.entangle
        config = self.config if entangle is None or entangle.strength else self.config.model_copy(update={"entangle": None})
        return hashlib.blake2b(f"{_DRAWING}/{config.model_dump_json()}".encode(), digest_size=16).hexdigest()

    @property
    def hashes(self) -> IndexHashes:
        """Hashes that all three change with the config, since everything follows from it."""
        return IndexHashes(self.fingerprint, self.fingerprint, self.fingerprint)

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute hashes from the config and the index alone; no picture is painted."""
        whole = self.fingerprint
        on_pictures(len(indices))
        return [hashlib.blake2b(f"{whole}/{index}".encode(), digest_size=16).digest() for index in indices]

    def __len__(self) -> int:
        return self.config.length

    def __getitem__(self, index: int) -> Sample:
        scene = self.scene(index)
        return Sample(
            id=self.sample_id(index),
            pixels=draw(scene),
            original_height_px=scene.height_px,
            original_width_px=scene.width_px,
            label=self._label(scene.shapes[0]),
            captions=self._captions(scene.shapes),
            attributes=self.attributes(scene),
            preference=self.config.preference_for(scene.shapes[0]),
        )

    def sample_id(self, index: int) -> str:
        """Return 'shapes/INDEX'."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return f"shapes/{index:06d}"

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the (height, width) in pixels, without painting the picture."""
        scene = self.scene(index)
        return scene.height_px, scene.width_px

    def label_of(self, index: int) -> int | None:
        """Return the class of a picture, without painting it; None where neither colour nor kind is told."""
        return self._label(self.words_of(index)[0])

    def _label(self, first: ShapeWords) -> int | None:
        name = first.telling(self.config.untold).class_name
        return self._class_names.index(name) if name else None

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of a picture, without painting it."""
        return self._captions(self.words_of(index))

    def _captions(self, shapes: Sequence[ShapeWords]) -> tuple[str, ...]:
        if lengths := self.config.caption_lengths:
            return tuple(caption for words in lengths for caption in captions_of_length(shapes[0], words))
        gappy = write_caption(shapes, self.config.untold)
        return (gappy, write_caption(shapes)) if self.config.told_too else (gappy,)

    def captions(self) -> list[str]:
        """Return every caption that this split can have, once each (not one per sample, since the sentences repeat)."""
        nouns = [(colour, kind, size) for colour, kind in self._pairs for size in self.config.sizes]
        scenes = [[ShapeWords(*noun, place)] for noun in nouns for place in PLACES]
        if self.config.two_shapes:
            for first, second in itertools.product(nouns, nouns):
                if first[0] != second[0]:
                    scenes += [[ShapeWords(*first, place), ShapeWords(*second, "")] for place in PLACES]
        return list(dict.fromkeys(caption for scene in scenes for caption in self._captions(scene)))

    def words_of(self, index: int) -> tuple[ShapeWords, ...]:
        """Decide what picture `index` shows, in words, which cost a fraction of its scene."""
        draws = Draws(self.config.seed, index)
        place = draws.one_of("place", PLACES)
        first = self._words(draws, "first", self._pairs, place)
        if not self.config.two_shapes or draws.between("count", 0, 1) >= self.config.two_shapes:
            return (first,)
        others = [pair for pair in self._pairs if pair[0] != first.colour]
        return first, self._words(draws, "second", others, PLACES[1 - PLACES.index(place)])

    def _words(self, draws: Draws, which: str, pairs: list[tuple[str, str]], place: str) -> ShapeWords:
        return ShapeWords(*draws.one_of(f"{which} pair", pairs), draws.one_of(f"{which} size", self._sizes), place)

    def scene(self, index: int) -> Scene:
        """Decide what picture `index` shows, without painting it."""
        draws, words = Draws(self.config.seed, index), self.words_of(index)
        height, width = draws.picture_size(self._short_side(draws, words[0]), self.config.longest_aspect)
        count = len(words)
        shapes = [self._shape(draws, "first", words[0], count, (height, width))]
        shapes += [self._shape(draws, "second", other, count, (height, width)) for other in words[1:]]
        return Scene(height, width, round(draws.between("background", *self.config.background)), tuple(shapes))

    def _short_side(self, draws: Draws, first: ShapeWords) -> int:
        low, high = self.config.short_side_px
        drawn = draws.between("short side", 0, 1)
        part, entangle = self._parts[first.colour, first.kind, first.place], self.config.entangle
        if part is not None and entangle is not None and draws.between("entangled size", 0, 1) < entangle.strength:
            drawn = part.within(drawn)
        side: float = low * (high / low) ** drawn
        return round(side)

    def _shape(self, draws: Draws, which: str, words: ShapeWords, count: int, size: tuple[int, int]) -> DrawnShape:
        extent = draws.between(f"{which} extent", *self._extents[words.size])
        # Two shapes stay in their halves, for every aspect ratio.
        half_x = extent * min(size) / size[1] / 2
        x = draws.between(f"{which} x", half_x, 0.5 - half_x) if count == 2 else draws.between(f"{which} x", 0.25, 0.33)
        y = draws.between(f"{which} y", *self.config.heights)
        placed = x if words.place == "left" else 1 - x
        return DrawnShape(words.colour, words.kind, words.size, words.place, placed, y, extent)

    @staticmethod
    def attributes(scene: Scene) -> Mapping[str, Any]:
        """Return the ground truth of a sample."""
        return {"shapes": scene.shapes}
