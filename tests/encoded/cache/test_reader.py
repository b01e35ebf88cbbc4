"""A cache is the memory of live encoding with the same fixed views: every field of every batch is equal, bit for bit."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.controls import Colour, Control, JpegQuality, Metadata, Turn, ViewShape
from open_ldm.controls.data import fit_controls
from open_ldm.core.errors import DataError
from open_ldm.data.columns import Columns, Given
from open_ldm.data.measures import MEASURES
from open_ldm.data.transforms import plan_view
from open_ldm.encoded.batch import EncodedBatch, LiveEncoder
from open_ldm.encoded.cache.cache import Cache
from open_ldm.encoded.cache.mapped import MappedSection
from open_ldm.encoded.cache.reader import CacheReader, ToDevice
from open_ldm.encoded.cache.records import read_record
from open_ldm.sources.loader import read_batches
from open_ldm.text.padding import PaddingKind, pad
from tests.encoded.cache.small_data import (
    CONTROLS,
    CPU,
    TRANSFORM,
    Halver,
    Letters,
    Pictures,
    Setting,
    content,
    fill,
    ranges,
)

SEED = 11
ORDER = torch.tensor([2, 0, 1])
MEASURING: tuple[Control, ...] = (Colour(), JpegQuality())
COLUMNS = (Metadata(column="stain"), Metadata(column="dose"))
TURNED = TRANSFORM.model_copy(update={"turn": "quarter"})
BATCHES = (0, 8, 12)
"""96 views: more than four epochs of 23 pictures."""


def controls_of(setting: Setting) -> tuple[Control, ...]:
    turn = (Turn(),) if setting.transform.turn != "none" else ()
    measuring = (control for control in MEASURING if set(control.measures) <= set(setting.measures))
    view = ViewShape(8, 8, 64, columns=tuple(control.describe(setting.source) for control in COLUMNS))
    return (*CONTROLS, *turn, *measuring, *(fit_controls(COLUMNS, view) if setting.columns else ()))


def live(setting: Setting, order: torch.Tensor | None = ORDER, batches: tuple[int, int, int] = BATCHES) -> list[EncodedBatch]:
    encoder = LiveEncoder(setting.autoencoder, controls_of(setting), CPU, setting.encoder, order)
    read = read_batches(
        setting.source,
        setting.transform,
        seed=SEED,
        position_ranges=ranges(*batches),
        workers=0,
        views=setting.views,
        measures=setting.measures,
        columns=setting.columns,
    )
    return [encoder.encode(batch) for batch in read]


def cached(
    cache: Cache,
    order: torch.Tensor | None = ORDER,
    batches: tuple[int, int, int] = BATCHES,
    threads: int = 0,
    controls: tuple[Control, ...] = CONTROLS,
) -> list[EncodedBatch]:
    reader = CacheReader(cache.open(), SEED, controls, order)
    return [ToDevice(CPU).encode(batch) for batch in reader.batches(ranges(*batches), threads)]


def assert_equal(found: list[EncodedBatch], wanted: list[EncodedBatch], *, all_positions: bool = False) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.positions == other.positions
        assert same(one.posterior.mean, other.posterior.mean) and same(one.posterior.std, other.posterior.std)
        assert same(one.labels, other.labels)
        assert one.controls.keys() == other.controls.keys()
        assert all(same(one.controls[name], other.controls[name]) for name in one.controls)
        assert (one.text is None) == (other.text is None)
        if one.text is not None and other.text is not None:
            assert same(one.text.mask, other.text.mask) and same(one.text.pooled, other.text.pooled)
            kept = torch.ones_like(other.text.mask) if all_positions else other.text.mask
            assert same(one.text.tokens[kept], other.text.tokens[kept])
            assert all_positions or not one.text.tokens[~kept].any()


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.is_floating_point():
        return one.dtype == other.dtype and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    return one.dtype == other.dtype and torch.equal(one, other)


SETTINGS: dict[str, Any] = {
    "identity": {},
    "deviation, bad pictures": {"source": Pictures(bad=(3, 17)), "autoencoder": Halver()},
    "one view": {"views": 1},
    "three views": {"views": 3, "autoencoder": Halver()},
    "no captions": {"source": Pictures(words=""), "encoder": None},
    "no labels": {"source": Pictures(labelled=False)},
    "tokens apart": {"encoder": Letters(segments=True)},
    "no pooled": {"encoder": Letters(pooled=False)},
    "all places": {"all_positions": True},
    "turned": {"transform": TURNED, "source": Pictures(bad=(3, 17))},
    "turned and measured": {"transform": TURNED, "measures": MEASURES, "autoencoder": Halver()},
    "measures": {"measures": MEASURES, "source": Pictures(bad=(3, 17)), "workers": 2},
    "metadata": {"columns": ("stain", "dose"), "source": Pictures(bad=(3, 17))},
    "metadata and measures": {"columns": ("dose", "stain"), "measures": MEASURES, "transform": TURNED},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_cached_batches_equal_live_ones(name: str, tmp_path: Path) -> None:
    setting = Setting(**SETTINGS[name])
    cache = setting.filled(tmp_path)
    order = ORDER if setting.source.labelled else None
    controls = controls_of(setting)
    for batches in (BATCHES, (7, 5, 9)):
        found = cached(cache, order, batches, controls=controls)
        assert all(batch.controls.keys() == {control.key for control in controls} for batch in found)
        assert_equal(found, live(setting, order, batches), all_positions=setting.all_positions)


def test_views_repeat_after_as_many_epochs_and_captions_do_not() -> None:
    setting = Setting(source=Pictures(length=16))
    epochs = live(setting, batches=(0, 16, 5))
    by_sample = [{mean.sum().item() for mean in epoch.posterior.mean} for epoch in epochs]
    assert by_sample[0] == by_sample[2] == by_sample[4] and by_sample[1] == by_sample[3]
    assert by_sample[0] != by_sample[1]
    texts = [sorted(row.sum().item() for row in epoch.text.tokens) for epoch in epochs if epoch.text is not None]
    assert texts[0] != texts[2]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads: int, tmp_path: Path) -> None:
    cache = Setting(autoencoder=Halver()).filled(tmp_path)
    assert_equal(cached(cache, threads=threads), cached(cache))


def test_another_training_seed_reads_the_same_views_in_another_order(tmp_path: Path) -> None:
    cache = Setting().filled(tmp_path)
    means = [
        torch.cat([batch.posterior.mean for batch in CacheReader(cache.open(), seed, ()).batches([range(23)], 0)])
        for seed in (0, 1)
    ]
    assert not torch.equal(*means)
    assert sorted(means[0].flatten(1).sum(1).tolist()) == sorted(means[1].flatten(1).sum(1).tolist())


@pytest.mark.parametrize("bad", [(), (3, 17)])
def test_controls_of_every_view_say_how_its_picture_was_cut(bad: tuple[int, ...], tmp_path: Path) -> None:
    """Recomputed from the pictures alone: every stored record is a plan of the picture that was used, and cuts its pixels."""
    setting = Setting(source=Pictures(bad=bad), views=3)
    cache = setting.filled(tmp_path)
    reader = CacheReader(cache.open(), SEED, CONTROLS)
    for batch in reader.batches(ranges(0, 23, 3), 0):
        read = read_batches(setting.source, setting.transform, seed=SEED, position_ranges=[batch.positions], workers=0, views=3)
        (pictures,) = read
        assert torch.equal(batch.posterior.mean, pictures.pixels.float() / 127.5 - 1)
        for control in CONTROLS:
            assert torch.equal(batch.controls[control.kind], control.numbers_of(pictures.records))
        for index, record in zip(pictures.indices, pictures.records, strict=True):
            original = setting.source.size_of(index)
            stored = original[0] // 10, original[1] // 10
            plan = plan_view(stored, original, setting.transform, 0, 0)
            assert (record.original_height_px, record.original_width_px) == original
            assert (record.scaled_height_px, record.scaled_width_px) == (plan.scaled_height_px, plan.scaled_width_px)


@pytest.mark.parametrize("kind", ["zero", "mask", "encoder", "replicate", "noisy_replicate"])
def test_padding_happens_after_the_cache(kind: PaddingKind, tmp_path: Path) -> None:
    setting = Setting(all_positions=kind == "encoder")
    cache = setting.filled(tmp_path)
    noise = torch.randn(8, 6, 4, generator=torch.Generator().manual_seed(0))
    for found, wanted in zip(cached(cache), live(setting), strict=True):
        assert found.text is not None and wanted.text is not None
        one = pad(found.text.tokens, found.text.mask, kind, noise)
        other = pad(wanted.text.tokens, wanted.text.mask, kind, noise)
        assert torch.equal(one.tokens, other.tokens)


def test_bfloat16_rounds_and_nothing_else(tmp_path: Path) -> None:
    setting = Setting(autoencoder=Halver())
    cache = setting.filled(tmp_path, latents="bfloat16", tokens="bfloat16")
    for found, wanted in zip(cached(cache), live(setting), strict=True):
        assert found.posterior.std is not None and wanted.posterior.std is not None
        assert found.text is not None and wanted.text is not None
        assert found.posterior.mean.dtype == found.text.tokens.dtype == torch.float32
        assert torch.equal(found.posterior.mean, wanted.posterior.mean.bfloat16().float())
        assert torch.equal(found.posterior.std, wanted.posterior.std.bfloat16().float())
        mask = wanted.text.mask
        assert torch.equal(found.text.tokens[mask], wanted.text.tokens[mask].bfloat16().float())


def test_bad_pictures_are_told_when_the_cache_is_opened(tmp_path: Path) -> None:
    cache = Setting(source=Pictures(bad=(3, 17)), views=2).filled(tmp_path)
    told = {(bad.id, bad.reason, bad.detail) for bad in cache.open().bad}
    assert told == {(f"pictures/{index}", "not a picture", f"number {index}") for index in (3, 17)}


def test_no_picture_is_read_and_the_content_is_known_by_its_hash(tmp_path: Path) -> None:
    setting = Setting()
    cache = setting.filled(tmp_path / "a")
    setting.source.read.clear()
    cached(cache)
    assert not setting.source.read
    other = Setting().filled(tmp_path / "b")
    assert other.open().content_hash == cache.open().content_hash
    assert Setting(autoencoder=Halver()).filled(tmp_path / "b").open().content_hash != cache.open().content_hash


def test_endless_reading_ends_when_closed(tmp_path: Path) -> None:
    reader = CacheReader(Setting().filled(tmp_path).open(), SEED, CONTROLS)
    endless = (range(4 * i, 4 * i + 4) for i in iter(int, 1))
    batches = reader.batches(chain([range(4)], endless), threads=2)
    assert next(batches).positions == (0, 1, 2, 3)
    batches.close()


def test_a_file_cut_short_is_one_line_instead_of_a_crash(tmp_path: Path) -> None:
    cache = Setting(source=Pictures(length=60), autoencoder=IdentityAutoencoder()).filled(tmp_path)
    file = cache.latents[0].section.file(1)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"00001.safetensors has \d+ bytes; needed: \d+ bytes; fix: run ldm encode") as raised:
        cached(cache)
    assert "\n" not in str(raised.value)


def test_a_control_of_metadata_encodes_nothing_again(tmp_path: Path) -> None:
    """The sections of a cache from before it stay byte for byte, in the layout they have; only the columns are added."""
    setting = Setting(autoencoder=Halver())
    setting.filled(tmp_path)
    before = content(tmp_path)
    setting.columns, setting.autoencoder = ("stain",), (again := Halver())
    cache = setting.cache(tmp_path)
    with cache:
        assert fill(cache).shards_written == 1
    after = content(tmp_path)
    assert again.encoded == 0 and all(after[name] == stored for name, stored in before.items())
    assert {name.split("-")[0] for name in after.keys() - before.keys()} == {"columns"}
    arrays, row = MappedSection(cache.latents[0].section).at(0)
    assert arrays["record"].shape[1] == 9 and not read_record(arrays, row).columns
    stored, _ = MappedSection(cache.columns.section).at(0)  # type: ignore[union-attr]
    assert {name: array.dtype for name, array in stored.items()} == {"column.stain": np.dtype("int32")}


def test_another_value_in_the_metadata_is_another_section(tmp_path: Path) -> None:
    setting = Setting(columns=("dose",))
    first = setting.filled(tmp_path)
    changed = Pictures()
    changed.columns = Columns(("dose",), Given({"dose": [index / 8 + (index == 5) for index in range(23)]}))
    other = Setting(columns=("dose",), source=changed).cache(tmp_path)
    assert other.columns is not None and first.columns is not None
    assert other.columns.section.path != first.columns.section.path
    assert [part.section.path for part in other.latents] == [part.section.path for part in first.latents]
    assert first.open().content_hash != Setting().filled(tmp_path).open().content_hash
