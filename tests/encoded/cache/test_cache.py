"""What a change makes anew and what it leaves, what is encoded how often, and what verification finds."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from open_ldm.autoencoders.base import Posterior
from open_ldm.core.errors import DataError, StoppedError
from open_ldm.data.measures import MEASURES
from open_ldm.data.sample import BadPicture, TransformRecord
from open_ldm.data.transforms import TransformConfig
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.cache import Cache
from open_ldm.encoded.cache.text import TextMaker
from open_ldm.encoded.cache.verify import check_entries, drop_damaged
from tests.encoded.cache.small_data import TRANSFORM, Halver, Letters, Pictures, Setting, content, fill

SMALL_SHARDS = {"shard_mb": 0.002}
"""Five pictures a file."""


def painted(index: int) -> Pictures:
    """Another picture under the same name; the index says the same."""
    pictures = Pictures()
    pictures.painted = {index: b"0" * 16}
    return pictures


CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "autoencoder": ({"autoencoder": Halver("other")}, {"view 1 of 2", "view 2 of 2"}),
    "transform": ({"transform": TransformConfig(size_px=8, flip=0.5)}, {"view 1 of 2", "view 2 of 2"}),
    "encoder": ({"encoder": Letters(name="other")}, {"captions"}),
    "precision of the encoder": ({"encoder": Letters(computed_in="bfloat16")}, {"captions"}),
    "kind of padding": ({"all_positions": True}, {"captions"}),
    "captions": ({"source": Pictures(words="new")}, {"captions"}),
    "labels": ({"source": Pictures(labelled=False)}, {"labels and ids"}),
    "another view": ({"views": 3}, {"view 3 of 3"}),
    "fewer views": ({"views": 1}, set()),
    "pictures": ({"source": Pictures(length=22)}, {"captions", "labels and ids", "view 1 of 2", "view 2 of 2"}),
    "content of a picture": ({"source": painted(3)}, {"view 1 of 2", "view 2 of 2"}),
    "readers": ({"workers": 2}, set()),
    "a control of whole pictures": ({"measures": MEASURES}, {"measures"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_makes_anew_what_it_touches(name: str, tmp_path: Path) -> None:
    Setting(autoencoder=Halver()).filled(tmp_path)
    changes, touched = CHANGES[name]
    cache = Setting(**{"autoencoder": Halver(), **changes}).cache(tmp_path)
    assert {part.label for part in cache.parts if part.section.missing()} == touched
    own = {part.section.path.name for part in cache.parts}
    assert set(cache.unused()) == {folder.name for folder in tmp_path.iterdir()} - own


@pytest.mark.parametrize(("setting", "touched"), [("latents", "view 1 of 2"), ("tokens", "captions")])
def test_number_formats_are_part_of_the_key(setting: str, touched: str, tmp_path: Path) -> None:
    Setting().filled(tmp_path)
    cache = Setting().cache(tmp_path, **{setting: "bfloat16"})
    assert touched in {part.label for part in cache.parts if part.section.missing()}
    assert "labels and ids" not in {part.label for part in cache.parts if part.section.missing()}


def test_everything_is_encoded_once(tmp_path: Path) -> None:
    setting = Setting(autoencoder=Halver(), views=3)
    setting.filled(tmp_path)
    assert isinstance(setting.autoencoder, Halver)
    assert setting.autoencoder.encoded == 3 * 23
    different = {caption for index in range(23) for caption in setting.source.captions_of(index) or ("",)}
    probed = len(different)
    assert set(setting.encoder.encoded) == different
    assert len(setting.encoder.encoded) <= probed + sum(len(setting.source.captions_of(index)) or 1 for index in range(23))
    setting.autoencoder.encoded = 0
    setting.encoder.encoded.clear()
    with setting.cache(tmp_path) as again:
        fill(again)
    assert setting.autoencoder.encoded == len(setting.encoder.encoded) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_between_batches_costs_nothing_but_time(workers: int, tmp_path: Path) -> None:
    setting = Setting(autoencoder=Halver(), workers=workers)
    setting.filled(tmp_path / "whole", **SMALL_SHARDS)
    asked = iter(range(1000))
    stops = 0
    while True:
        work = Work(stop_requested=lambda: next(asked) % 5 == 4)
        try:
            with setting.cache(tmp_path / "broken", **SMALL_SHARDS) as cache:
                fill(cache, work)
            break
        except StoppedError as error:
            assert error.exit_code == 75
            stops += 1
    assert stops >= 2
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


class Mixer(Halver):
    """What stands beside a picture changes it, as it may change last bits."""

    def encode(self, images: torch.Tensor) -> Any:
        return super().encode(images + images.mean() * 1e-3)


def test_batches_do_not_depend_on_where_encoding_began(tmp_path: Path) -> None:
    """What stands beside a picture may change its last bits, so every batch must be the same in every run."""

    setting = Setting(autoencoder=Mixer(), views=1)
    setting.filled(tmp_path / "whole", **SMALL_SHARDS)
    cache = setting.filled(tmp_path / "broken", **SMALL_SHARDS)
    for shard in (1, 3):
        cache.latents[0].section.discard(shard)
    with setting.cache(tmp_path / "broken") as again:
        fill(again)
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def changed(cache: Cache, part: int, shard: int) -> None:
    file = cache.parts[part].section.file(shard)
    flipped = bytearray(file.read_bytes())
    flipped[-3] ^= 4
    file.write_bytes(flipped)


def test_verification_finds_damage_and_filling_mends_it(tmp_path: Path) -> None:
    setting = Setting(autoencoder=Halver())
    cache = setting.filled(tmp_path, **SMALL_SHARDS)
    before = content(tmp_path)
    assert list(drop_damaged(cache)) == []
    changed(cache, 1, 0)
    changed(cache, 3, 2)
    problems = list(drop_damaged(cache))
    assert [problem.split("/")[1].split(" ")[0] for problem in problems] == ["00000.safetensors", "00002.safetensors"]
    assert fill(cache).shards_written == 2
    cache.__exit__()
    assert content(tmp_path) == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("entries", [9, 23])
def test_entries_made_again_are_equal(entries: int, dtype: str, tmp_path: Path) -> None:
    source, encoder = Pictures(bad=(3,)), Letters(segments=True)
    setting = Setting(autoencoder=Halver(), source=source, encoder=encoder, measures=MEASURES, columns=COLUMNS)
    cache = setting.filled(tmp_path, latents=dtype, tokens=dtype, **SMALL_SHARDS)
    halver = setting.autoencoder
    assert isinstance(halver, Halver)
    halver.encoded = 0
    checked = check_entries(cache, entries)
    assert (checked.entries, checked.difference, checked.wrong) == (6 * entries, 0.0, ())
    assert halver.encoded <= 2 * 23  # no batch twice


class Tampered:
    """A maker that now makes something else of one part of what is stored."""

    def __init__(self, maker: Any, name: str) -> None:
        self.maker, self.name, self.really = maker, name, maker.encode

    def encode(self, *given: Any) -> dict[str, torch.Tensor]:
        made = dict(self.really(*given))
        other = made[self.name].clone()
        flat = other.reshape(len(other), -1)
        flat[:, -1] = ~flat[:, -1] if other.dtype == torch.bool else flat[:, -1] * 3 + 1
        return {**made, self.name: other}


COLUMNS = ("dose", "stain")
PARTS = [
    *(("view 1 of 2", name) for name in ("mean", "std", "record", "index")),
    *(("turned", f"record.{field.name}") for field in fields(TransformRecord) if field.name not in (*MEASURES, "columns")),
    *(("captions", name) for name in ("tokens", "mask", "pooled")),
    *(("labels and ids", name) for name in ("label", "ids")),
    *(("measures", name) for name in MEASURES),
    *(("metadata", f"column.{name}") for name in COLUMNS),
]


@pytest.mark.parametrize(("label", "name"), PARTS)
def test_everything_stored_is_compared(label: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = TRANSFORM.model_copy(update={"turn": "quarter" if label == "turned" else "none"})
    cache = Setting(autoencoder=Halver(), measures=MEASURES, transform=transform, columns=COLUMNS).filled(tmp_path)
    part = next(part for part in cache.parts if part.label == label.replace("turned", "view 1 of 2"))
    monkeypatch.setattr(part.maker, "encode", Tampered(part.maker, name).encode)
    checked = check_entries(cache, 5)
    assert len(checked.wrong) >= 4 and checked.difference > 0.01
    assert {wrong.section for wrong in checked.wrong} == {part.section.path}
    assert checked.wrong[0].what.endswith(f"what is stored is not what is made of it now ({name})")


def test_pictures_changed_behind_their_hashes_are_found(tmp_path: Path) -> None:
    class Repainted(Pictures):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__((index + 5) % 23)

    Setting(autoencoder=Halver()).filled(tmp_path)
    cache = Setting(autoencoder=Halver(), source=Repainted()).cache(tmp_path)
    assert not any(part.section.missing() for part in cache.parts)
    checked = check_entries(cache, 4)
    assert len(checked.wrong) == 8 and checked.difference > 0.01
    assert "view 1 of 2: what is stored is not what is made of it now (mean, " in checked.wrong[0].what


def test_numbers_that_are_none_belong_to_no_picture(tmp_path: Path) -> None:
    class Broken(Halver):
        def encode(self, images: torch.Tensor) -> Posterior:
            found = super().encode(images)
            return Posterior(found.mean * torch.nan, found.std)

    Setting(autoencoder=Broken()).filled(tmp_path)
    checked = check_entries(Setting(autoencoder=Halver()).cache(tmp_path), 4)
    assert len(checked.wrong) == 8 and checked.difference == 1


def test_captions_changed_behind_the_index_are_found(tmp_path: Path) -> None:
    Setting().filled(tmp_path)
    before = Pictures().hashes

    class Hidden(Pictures):
        hashes = property(lambda self: before)  # type: ignore[assignment]

    cache = Setting(source=Hidden(words="xyz")).cache(tmp_path)
    assert any("captions: what is stored" in wrong.what for wrong in check_entries(cache, 4).wrong)


def test_a_picture_that_the_disk_does_not_give_is_an_error_and_not_remembered(tmp_path: Path) -> None:
    class Failing(Pictures):
        of_disk = True

        def __getitem__(self, index: int) -> Any:
            if index == 7 and self.of_disk:
                raise BadPicture("cannot be read", "7: Input/output error", of_disk=True)
            return super().__getitem__(index)

    for workers in (0, 2):
        with (
            Setting(source=Failing(), workers=workers).cache(tmp_path / "broken", **SMALL_SHARDS) as cache,
            pytest.raises(DataError, match=r"picture pictures/7 cannot be read now .*; fix: .* run the same command again"),
        ):
            fill(cache)
    Failing.of_disk = False
    again = Setting(source=Failing()).filled(tmp_path / "broken", **SMALL_SHARDS)
    assert again.open().bad == ()
    Setting().filled(tmp_path / "whole", **SMALL_SHARDS)
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_a_section_keeps_the_batches_it_was_begun_with(tmp_path: Path) -> None:
    setting = Setting(autoencoder=Mixer(), views=1)
    setting.filled(tmp_path / "whole", **SMALL_SHARDS)
    cache = setting.filled(tmp_path / "broken", **SMALL_SHARDS)
    cache.latents[0].section.discard(2)
    again = setting.filled(tmp_path / "broken", shard_mb=0.01, batch_size=1)
    assert again.latents[0].section.batch_size == 4
    assert content(tmp_path / "broken") == content(tmp_path / "whole")
    assert check_entries(again, 23).difference == 0


class Growing(Pictures):
    """One word for the first thousand pictures, many captions of six tokens each for those at the end."""

    def captions_of(self, index: int) -> tuple[str, ...]:
        return ("",) if index < 1000 else tuple(f"{index} {which:05}"[:11] for which in range(20))


def test_captions_that_grow_make_no_giant_file(tmp_path: Path) -> None:
    source = Growing(length=1040)
    cache = Setting(source=source, views=0).filled(tmp_path, shard_mb=0.02)
    assert cache.text is not None
    sizes = [record.bytes for record in cache.text.section.index() or ()]
    assert max(sizes) < 4 * 20_000 + 2_000  # and the header of safetensors
    for_many = TextMaker(source, Letters(), cache.config, all_positions=False).rows_per_shard(20_000)
    assert for_many == cache.text.section.rows_per_shard > 1
