"""Buckets by counting: shapes of constant area, the shape that keeps most, and an order that loses and repeats nothing."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_ldm.controls import AspectRatio, Crop, OriginalSize, ViewShape
from open_ldm.core.config import validate
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.data.bucket_order import BucketOrder
from open_ldm.data.bucket_shapes import BucketsConfig, Shape, bucket_shapes, kept_share, nearest_shape, shapes_of_area
from open_ldm.data.buckets import Buckets, assign, find_buckets
from open_ldm.data.order import permuted
from open_ldm.data.sample import BadPicture, Sample, SourceSummary
from open_ldm.data.transforms import CenterCrop, TransformConfig, plan_view
from open_ldm.sources.loader import read_batches
from open_ldm.training.plan import plan_batches

BASE = (16, 16)
SHAPES = bucket_shapes(BASE, 2, BucketsConfig())
EPOCHS = 3


def of_counts(*counts: int) -> Buckets:
    """Buckets with so many samples each; which sample is in which is mixed."""
    numbers = np.repeat(np.arange(len(counts)), counts).astype(np.uint16)
    mixed = np.random.default_rng(0).permutation(numbers)
    return Buckets(tuple((8 + 2 * number, 8) for number in range(len(counts))), mixed, 0.0, 0.0, (8, 8))


class Pictures:
    """Pictures of 1:3 to 3:1; some cannot be read at all."""

    class_names = ()
    fingerprint = ""
    of_disk = False

    def __init__(self, length: int, bad: tuple[int, ...] = ()) -> None:
        ratios = np.exp(np.random.default_rng(1).uniform(-np.log(3), np.log(3), length))
        self.sizes = [(round(24 / ratio**0.5), round(24 * ratio**0.5)) for ratio in ratios]
        self.bad, self.summary = bad, SourceSummary(length, 0, 0, "test")

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise BadPicture("not a picture")
        return Sample(str(index), np.full((*self.sizes[index], 3), index, dtype=np.uint8), *self.sizes[index])

    def sample_id(self, index: int) -> str:
        return str(index)

    def size_of(self, index: int) -> Shape:
        if index in self.bad:
            raise BadPicture("not a picture", of_disk=self.of_disk)
        return self.sizes[index]

    def size_or_none(self, index: int) -> Shape | None:
        return None if index in self.bad else self.sizes[index]


@pytest.mark.parametrize(("base", "step"), [((16, 16), 2), ((64, 64), 4), ((512, 512), 16), ((32, 64), 4)])
def test_shapes_fill_the_area_and_come_in_pairs(base: Shape, step: int) -> None:
    area = base[0] * base[1]
    possible = shapes_of_area(base, step)
    for height, width in possible:
        assert height % step == width % step == 0 and height * width <= area
        assert (height + step) * width > area and height * (width + step) > area
    assert base in possible and sorted(possible) == sorted((width, height) for height, width in possible)
    chosen = bucket_shapes(base, step, BucketsConfig())
    ratios = [width / height for height, width in chosen]
    assert base in chosen and set(chosen) <= set(possible) and max(*ratios, *(1 / ratio for ratio in ratios)) <= 3
    assert all(after / before >= 1.0999 for before, after in itertools.pairwise(ratios))
    assert base[0] != base[1] or sorted(chosen) == sorted((width, height) for height, width in chosen)


def test_given_ratios_take_the_nearest_shapes() -> None:
    assert bucket_shapes((40, 40), 4, BucketsConfig(ratios=(2, 1, 0.5))) == ((56, 28), (40, 40), (28, 56))
    with pytest.raises(ConfigError, match=r"buckets.ratios 1 and 1.05 both give 16x16 px: sides are in steps of 4 px"):
        bucket_shapes(BASE, 4, BucketsConfig(ratios=(1, 1.05)))
    with pytest.raises(ConfigError, match=r"buckets give 16x16 px alone: sides are in steps of 8 px; needed: several shapes"):
        bucket_shapes(BASE, 8, BucketsConfig())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"buckets": {"ratios": [1, 2], "longest": 4}}, "longest has no effect on ratios that are given"),
        ({"buckets": {}, "crop": {"kind": "local", "scale_px": 20}}, "needed: crop.kind=global or center"),
        ({"buckets": {}, "turn": "quarter"}, "needed: turn=half or none"),
        ({"buckets": {"step_px": 3}}, "step_px=3 does not divide size_px=16"),
    ],
)
def test_what_buckets_do_not_go_with_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        validate(TransformConfig, {"size_px": 16, **changes}, source="test")


def test_without_buckets_nothing_is_written() -> None:
    assert "buckets" not in TransformConfig(size_px=16).model_dump()
    assert TransformConfig(size_px=16, buckets=BucketsConfig()).model_dump()["buckets"]["step_px"] is None


@settings(max_examples=40)
@given(st.tuples(st.integers(20, 400), st.integers(20, 400)))
def test_the_nearest_shape_keeps_most_of_a_picture(size: Shape) -> None:
    cut = TransformConfig(size_px=16, crop=CenterCrop(), buckets=BucketsConfig(step_px=2))
    assert cut.shapes == SHAPES
    kept = []
    for shape in SHAPES:
        record = plan_view(size, size, cut.of_shape(shape), 0, 0)
        assert (record.height_px, record.width_px) == shape
        exact = shape[0] * shape[1] / (size[0] * size[1] * max(shape[0] / size[0], shape[1] / size[1]) ** 2)
        assert kept_share(size, shape) == pytest.approx(exact)
        kept.append(exact)
    assert kept[nearest_shape(size, SHAPES)] == pytest.approx(max(kept))


@settings(max_examples=30)
@given(st.integers(1, 120), st.integers(0, 5), st.integers(0, 3))
def test_every_permutation_has_an_inverse(length: int, seed: int, epoch: int) -> None:
    images = [permuted(seed, epoch, index, length) for index in range(length)]
    inverse = [images.index(image) for image in range(length)]  # fails where an image is missing
    assert [inverse[image] for image in images] == [images[index] for index in inverse] == list(range(length))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any), st.integers(1, 9), st.integers(0, 3))
def test_each_epoch_has_each_sample_once_up_to_the_filling(counts: list[int], batch_size: int, seed: int) -> None:
    buckets = of_counts(*counts)
    order = BucketOrder(buckets, seed, batch_size)
    batches, came = Counter[tuple[int, int]](), Counter[int]()
    start = 0
    for epoch in range(EPOCHS):
        stop = start + order.batches_of(epoch)
        for number in range(start, stop):
            at = order.batch_at(number)
            assert at.epoch == epoch
            batches[at.bucket, at.batch] += 1
            keys = [order.view_at(number * batch_size + row) for row in range(batch_size)]
            assert {buckets.numbers[key.index] for key in keys} == {at.bucket}
            assert {key.shape for key in keys} == {buckets.shapes[at.bucket]}
            came.update(key.index for key in keys)
        start = stop
        assert set(batches.values()) == {1}  # a permutation: each batch of each bucket once
        for bucket, members in enumerate(buckets.members):
            own = sorted(batch for of, batch in batches if of == bucket)
            assert own == list(range(-(-(epoch + 1) * len(members) // batch_size)))  # and none left out
            extra = [came[int(index)] - (epoch + 1) for index in members]
            assert all(each >= 0 for each in extra) and sum(extra) < batch_size
            assert not extra or max(extra) <= -(-(batch_size - 1) // len(members))
    assert order.batch_at(start).epoch >= EPOCHS


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_three_epochs_counted_for_any_number_of_processes(ranks: int) -> None:
    """Pictures of 1:3 to 3:1, read as each process reads them: sample by sample, in the shape of the global batch."""
    source = Pictures(61)
    buckets = assign([source.size_or_none(index) for index in range(61)], SHAPES, BASE)
    order = BucketOrder(buckets, seed=5, batch_size=8)
    cut = TransformConfig(size_px=16, buckets=BucketsConfig(step_px=2))
    updates = sum(order.batches_of(epoch) for epoch in range(EPOCHS))
    came: Counter[str] = Counter()
    shapes: list[set[tuple[int, ...]]] = [set() for _ in range(updates)]
    for rank in range(ranks):
        plan = plan_batches(8, 2 if ranks < 4 else None, World(rank, ranks))
        positions = itertools.islice(plan.ranges(0), updates * plan.micro_batches)
        for number, batch in enumerate(read_batches(source, cut, seed=5, position_ranges=positions, workers=0, order=order)):
            came.update(batch.ids)
            shapes[number // plan.micro_batches].add(tuple(batch.pixels.shape[2:]))
            for name, record, pixels in zip(batch.ids, batch.records, batch.pixels, strict=True):
                assert (record.height_px, record.width_px) == buckets.shape_of(int(name)) and (pixels == int(name)).all()
    assert all(len(found) == 1 for found in shapes) and len(set.union(*shapes)) == len(SHAPES)
    wanted = Counter(str(order.view_at(position).index) for position in range(8 * updates))
    assert came == wanted and min(came.values()) == EPOCHS and len(came) == 61
    for members in buckets.members:
        assert sum(came[str(index)] - EPOCHS for index in members) < 8


def test_workers_change_nothing_and_bad_pictures_are_replaced_by_their_like() -> None:
    source = Pictures(40, bad=(3, 7, 30))
    buckets = assign([source.size_or_none(index) for index in range(40)], SHAPES, BASE)
    assert all(buckets.numbers[index] == np.bincount(buckets.numbers).argmax() for index in source.bad)
    order = BucketOrder(buckets, seed=2, batch_size=4)
    cut = TransformConfig(size_px=16, flip=0.5, buckets=BucketsConfig(step_px=2))
    ranges = [range(start, start + 4) for start in range(0, 120, 4)]
    read = [list(read_batches(source, cut, seed=2, position_ranges=ranges, workers=n, order=order)) for n in (0, 2)]
    assert sum(len(batch.bad) for batch in read[0]) >= 3
    for one, other in zip(*read, strict=True):
        assert one.ids == other.ids and one.records == other.records and (one.pixels == other.pixels).all()
        assert len({buckets.shape_of(int(name)) for name in one.ids}) == 1


def test_fixed_views_come_in_turn_one_an_epoch_of_the_bucket() -> None:
    order = BucketOrder(of_counts(5, 9), seed=1, batch_size=4, views=2)
    views: dict[int, list[int]] = {}
    for position in range(4 * sum(order.batches_of(epoch) for epoch in range(6))):
        at = order.batch_at(position // 4)
        key = order.view_at(position)
        assert key.view is not None and (key.seed, key.number) == (0, 14 * key.view + key.index)
        views.setdefault(key.index, []).append((at.batch * 4 + position % 4) // len(order.buckets.members[at.bucket]) % 2)
        assert views[key.index][-1] == key.view
    assert all(abs(sum(each) - len(each) / 2) <= 1 for each in views.values())


def test_pixels_thrown_away_are_told_beside_the_square_crop() -> None:
    sizes: list[Shape | None] = [(100, 100), (100, 200), (300, 100), None]
    buckets = assign(sizes, [(16, 16), (12, 20)], BASE)
    assert buckets.numbers.tolist() == [0, 1, 0, 0]
    assert buckets.thrown_away_alone == pytest.approx(1 - (1 + 1 / 2 + 1 / 3) / 3)
    assert buckets.thrown_away == pytest.approx(1 - (1 + 5 / 6 + 1 / 3) / 3)
    assert buckets.sentence().startswith("2 of 2 buckets are used, 16x16 to 12x20 px, most pictures in 16x16; 27.8 % of a")
    assert buckets.sentence().endswith("picture's pixels are thrown away (by a square crop 38.9 %)")
    assert buckets.small(4)[0].endswith("12x20 (1), 16x16 (3)") and buckets.small(1) == ()
    assert buckets.fingerprint != assign(sizes[:3], buckets.shapes, BASE).fingerprint


def test_controls_say_what_a_view_of_a_bucket_is() -> None:
    cut = TransformConfig(size_px=16, buckets=BucketsConfig(step_px=2))
    record = plan_view((40, 100), (400, 1000), cut.of_shape((10, 24)), 3, 4)
    assert OriginalSize().of(record) == (400, 1000)
    assert AspectRatio(measure="height_over_width").of(record) == (0.4,)
    assert record.scaled_height_px == 10 and record.scaled_width_px == 25 and record.crop_top_px == 0
    assert Crop().of(record) == (0, 1000 * record.crop_left_px / 24)
    view = ViewShape(16, 16, 50, shapes=SHAPES).of_shape((10, 24))
    assert OriginalSize().default(view) == (50, 120)  # as wide pictures of that short side are
    assert AspectRatio(measure="height_over_width").default(view) == (10 / 24,)
    assert Crop().read("5,6", view) == (500, 250)
    assert OriginalSize().default(ViewShape(10, 24, 50)) == (50, 50)  # one shape: as before


def test_a_header_that_is_no_picture_joins_the_fullest_and_one_that_the_disk_withholds_ends_the_start() -> None:
    """Another time it would be read, and the picture would be in another bucket of the same run."""
    source, shapes = Pictures(40, bad=(3,)), ((12, 20), (16, 16), (20, 12))
    found = find_buckets(source, shapes, BASE)  # type: ignore[arg-type]
    assert found.numbers[3] == np.bincount(found.numbers).argmax()
    source.of_disk = True
    with pytest.raises(DataError, match="picture 3 cannot be read now"):
        find_buckets(source, shapes, BASE)  # type: ignore[arg-type]


def test_a_ratio_that_no_shape_meets_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"buckets.ratios 2: the nearest shape is 12x20 px") as refused:
        bucket_shapes(BASE, 4, BucketsConfig(ratios=(1, 2)))
    assert (refused.value.fix or "").startswith("1.67 instead")
