"""The pictures, shards and folders of the data floor, for the tests of what reads them."""

from __future__ import annotations

from tests.data.conftest import encoder, image_maker, own_cache, real_data_folder, tar_maker

__all__ = ["encoder", "image_maker", "own_cache", "real_data_folder", "tar_maker"]
