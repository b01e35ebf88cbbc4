"""Values of 16 bits go through reader, autoencoder, cache and writer and stay what they were."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.autoencoders.latent_stats import LatentStats
from open_ldm.core.pictures import to_images, to_pixels
from open_ldm.data import channels
from open_ldm.data.columns import columns_of
from open_ldm.data.content import content_hash
from open_ldm.data.ome import in_file_units, read_ome, tiff_bytes
from open_ldm.data.transforms import CenterCrop, TransformConfig
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.cache import Cache
from open_ldm.encoded.cache.config import CacheConfig
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.loader import read_batches

SIDE = 256
RAMP = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE)
NAMES = ("DAPI", "α-tubulin <2>")


def written(path: Path, *planes: np.ndarray[Any, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(tiff_bytes(np.stack(planes), NAMES[: len(planes)]))
    return path.parent


def through_cache(folder: Path, where: Path, **settings: Any) -> torch.Tensor:
    """The cached means [N, C, H, W] of a folder's pictures under the identity."""
    source = FolderConfig(path=folder, **settings).open()
    cut = TransformConfig(size_px=SIDE, crop=CenterCrop())
    network = IdentityAutoencoder(settings["channels"])
    cache = Cache(CacheConfig(path=where), source, content_hash(source), cut, 1, network, None, torch.device("cpu"), 0)
    for part in cache.parts:
        part.fill(Work())
    (latents,) = cache.open().latents
    found = [latents.at(index) for index in range(len(source))]
    return torch.from_numpy(np.stack([arrays["mean"][row] for arrays, row in found]))


@pytest.mark.parametrize("ranges", [None, ((0, 65535), (100, 4195))], ids=["whole", "12-bit camera"])
def test_a_ramp_of_all_values_comes_back(ranges: Any, tmp_path: Path) -> None:
    low, high = (0, 65535) if ranges is None else ranges[1]
    camera = (low + RAMP.astype(int) % (high - low + 1)).astype(np.uint16)
    folder = written(tmp_path / "pictures" / "a.tif", RAMP, camera)
    raw = through_cache(folder, tmp_path / "cache", channels=2, bits=16, channel_range=ranges)
    stats = LatentStats(mean=(0.013, -0.4), std=(0.577, 0.21))
    images = IdentityAutoencoder(2).decode(stats.denormalise(stats.normalise(raw)))
    back = in_file_units(to_pixels(images, bits=16)[0].numpy(), ranges)
    content = tiff_bytes(back, NAMES)
    again = channels.decode(content, 2, None, 64, bits=16)
    assert np.abs(again[:, :, 0].astype(int) - RAMP).max() <= 1
    assert np.abs(again[:, :, 1].astype(int) - camera).max() <= 1
    assert len(np.unique(again[:, :, 0])) > 65000
    assert read_ome(content).channels == NAMES
    eight = through_cache(folder, tmp_path / "cache", channels=2, channel_range=ranges)
    assert len(np.unique(eight[0, 0].numpy())) == 256 and not torch.equal(eight, raw)


def test_pixels_of_16_bits_and_images_invert_each_other() -> None:
    pixels = torch.from_numpy(RAMP.copy())
    assert torch.equal(to_pixels(to_images(pixels), bits=16).to(torch.int32), pixels.to(torch.int32))
    eight = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_images(eight), eight.float() / 127.5 - 1) and torch.equal(to_pixels(to_images(eight)), eight)


def test_8_bits_are_read_as_ever_whatever_the_bits_are_called(tmp_path: Path) -> None:
    """The setting at its default leaves hashes, recipes and pixels as they were; files of 8 bits hold the same in both."""
    (tmp_path / "a").mkdir()
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(grey).save(tmp_path / "a" / "0.png")
    eight, wide = (FolderConfig(path=tmp_path / "a", channels=1, **more) for more in ({}, {"bits": 16}))
    assert "bits" not in eight.model_dump() and "channel_names" not in eight.model_dump()
    assert eight.reading == (64.0, 1, None) and wide.reading == (64.0, 1, None, 16)
    assert wide.model_dump()["bits"] == 16 and eight.open().hashes != wide.open().hashes
    pixels, exact = eight.open()[0].pixels, wide.open()[0].pixels
    np.testing.assert_array_equal(pixels[:, :, 0], grey)
    assert exact.dtype == np.uint16
    np.testing.assert_array_equal(exact, pixels.astype(np.uint16) * 257)


def test_batches_are_cut_flipped_and_resized_in_16_bits(tmp_path: Path) -> None:
    folder = written(tmp_path / "pictures" / "a.tif", RAMP, RAMP[::-1].copy())
    source = FolderConfig(path=folder, channels=2, bits=16).open()
    cut = TransformConfig(size_px=64, flip=0.5, turn="quarter")
    (one,), (other,) = ([*read_batches(source, cut, seed=0, position_ranges=[range(8)], workers=workers)] for workers in (0, 1))
    assert one.pixels.dtype == torch.uint16 and one.pixels.shape == (8, 2, 64, 64)
    assert one.pixels.numpy().tobytes() == other.pixels.numpy().tobytes()
    kept = one.pixels[[0, 3]].float()
    assert len(kept.unique()) > 4000, "8 bits would leave 256 values"
    view = to_images(one.pixels)
    assert view.min() >= -1 and view.max() <= 1
    eight = FolderConfig(path=folder, channels=2).open()
    (coarse,) = read_batches(eight, cut, seed=0, position_ranges=[range(8)], workers=0)
    assert (to_images(coarse.pixels) - view).abs().max() < 4 / 255


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bits": 16}, "bits=16 has no effect on RGB"),
        ({"channel_names": ["a"]}, "channel_names has no effect on RGB"),
        ({"channels": 2, "channel_names": ["a"]}, "1 names for 2 channels"),
        ({"channels": 2, "bits": 12}, "8 or 16"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FolderConfig(path=Path("x"), **settings)


def test_microscopes_say_pixel_size_and_channels(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.stack([RAMP, RAMP])
    for unit, factor in (("µm", 1), ("nm", 1e-3), ("mm", 1e3)):
        about = {"axes": "CYX", "PhysicalSizeX": 0.325, "PhysicalSizeXUnit": unit, "Channel": {"Name": list(NAMES)}}
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, ome=True, metadata=about, byteorder=">" if unit == "nm" else "<", bigtiff=unit == "mm")
        found = read_ome(stream.getvalue())
        assert found.channels == NAMES and found.pixel_size_um == pytest.approx(0.325 * factor)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.tif").write_bytes(stream.getvalue())
    sample = FolderConfig(path=tmp_path / "a", channels=2, bits=16).open()[0]
    assert sample.attributes == {"ome.pixel_size_um": pytest.approx(325.0), "ome.channels": ", ".join(NAMES)}
    columns = columns_of(FolderConfig(path=tmp_path / "a", channels=2).open())
    assert columns["ome.pixel_size_um"].at(0) == pytest.approx(325.0) and "ome.channels" in columns
    assert columns["ome.channels"].at(0) == ", ".join(NAMES) and not columns.unused(["ome.pixel_size_um"])
    with tifffile.TiffFile(io.BytesIO(tiff_bytes(values, NAMES))) as file:
        assert file.is_ome and file.series[0].axes == "CYX"
        np.testing.assert_array_equal(file.series[0].asarray(), values)
    plain = io.BytesIO()
    Image.fromarray(RAMP).save(plain, "TIFF")
    assert read_ome(plain.getvalue()).columns() == {} and read_ome(stream.getvalue()[:200]).columns() == {}
