from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.evaluation.features import FeatureExtractor, LPIPSConfig, RandomConfig, build_extractor
from open_ldm.evaluation.features.distance import distance
from open_ldm.evaluation.features.lpips_trunks import TAPS, Trunk, TrunkName
from tests.evaluation.sets import CPU, images
from tests.helpers import randn

TRUNKS: tuple[TrunkName, ...] = get_args(TrunkName)
PUBLISHED_SIZES = {"alexnet": 2_469_696, "vgg16": 14_714_688, "squeezenet": 722_496}
"""Parameters of the convolutions alone; of the whole networks 61,100,840, 138,357,544 and 1,235,496."""
CLASSIFIER_SIZES = {"alexnet": 58_631_144, "vgg16": 123_642_856, "squeezenet": 513_000}


def heads(trunk: TrunkName, seed: int = 3) -> dict[str, Tensor]:
    shapes = enumerate(TAPS[trunk].channels)
    return {f"lin{i}.model.1.weight": randn(1, channels, 1, 1, seed=seed + i).abs() for i, channels in shapes}


def config(folder: Path, trunk: TrunkName = "squeezenet", **changes: object) -> LPIPSConfig:
    """Files of random weights, with a classifier's tensor beside the trunk's as in the published files."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = Trunk(trunk).state_dict()
    save_file({**state, "classifier.1.weight": torch.ones(2, 2)}, folder / "trunk.safetensors")
    save_file(heads(trunk), folder / "heads.safetensors")
    files = {"weights": str(folder / "trunk.safetensors"), "heads": str(folder / "heads.safetensors")}
    return LPIPSConfig.model_validate({"trunk": trunk, **files, **changes})


@pytest.fixture(name="lpips")
def lpips_extractor(tmp_path: Path) -> FeatureExtractor:
    return build_extractor(config(tmp_path), CPU)


@pytest.mark.parametrize("trunk", TRUNKS)
def test_trunks_have_the_published_sizes_and_taps(trunk: TrunkName) -> None:
    network = Trunk(trunk)
    assert sum(each.numel() for each in network.parameters()) == PUBLISHED_SIZES[trunk]
    whole = {"alexnet": 61_100_840, "vgg16": 138_357_544, "squeezenet": 1_235_496}[trunk]
    assert PUBLISHED_SIZES[trunk] + CLASSIFIER_SIZES[trunk] == whole
    least = TAPS[trunk].least_px
    maps = network(randn(1, 3, least, least))
    assert tuple(each.shape[1] for each in maps) == TAPS[trunk].channels
    assert all(float(each.detach().min()) >= 0 for each in maps)
    with pytest.raises(RuntimeError):
        network(randn(1, 3, least - 1, least - 1))


def test_names_are_those_of_torchvisions_files() -> None:
    assert {"features.0.weight", "features.3.bias", "features.10.weight"} <= set(Trunk("alexnet").state_dict())
    assert {"features.0.weight", "features.28.bias"} <= set(Trunk("vgg16").state_dict())
    assert {"features.3.squeeze.weight", "features.12.expand3x3.bias"} <= set(Trunk("squeezenet").state_dict())


def test_distance_is_the_published_formula(lpips: FeatureExtractor, tmp_path: Path) -> None:
    x, y = images(2, 24, seed=1), images(2, 24, seed=2)
    found = distance(lpips.extract(x), lpips.extract(y), "layers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        trunk = Trunk("squeezenet")
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    with torch.no_grad():
        pairs = list(zip(trunk((x - shift) / scale), trunk((y - shift) / scale), heads("squeezenet").values(), strict=True))
    for row in range(2):
        total = 0.0
        for f, g, w in pairs:
            places = [(i, j) for i in range(f.shape[2]) for j in range(f.shape[3])]
            total += sum(
                float((w.flatten() * (unit(f[row, :, i, j]) - unit(g[row, :, i, j])) ** 2).sum()) for i, j in places
            ) / len(places)
        assert float(found[row]) == pytest.approx(total, rel=1e-4)


def unit(vector: Tensor) -> Tensor:
    return vector / (vector.norm() + 1e-10)


def test_equal_pictures_are_at_zero_and_order_does_not_matter(lpips: FeatureExtractor) -> None:
    x, y = lpips.extract(images(3, 24, seed=1)), lpips.extract(images(3, 24, seed=2))
    assert (distance(x, x, "layers") == 0).all()
    assert (distance(x, y, "layers") > 0).all()
    torch.testing.assert_close(distance(x, y, "layers"), distance(y, x, "layers"), rtol=1e-12, atol=0)
    torch.testing.assert_close(distance(x, y, "vectors"), (x.vectors - y.vectors).double().norm(dim=1))
    assert x.vectors.shape == (3, lpips.dim)


def test_small_pictures_are_refused(lpips: FeatureExtractor) -> None:
    with pytest.raises(DataError, match="lpips squeezenet: the pictures have 16x16 px; needed: at least 17 px"):
        lpips.extract(images(1, 16))


def test_heads_of_another_trunk_are_refused(tmp_path: Path) -> None:
    for trunk, said in (
        ("alexnet", r"is \[1, 192, 1, 1\]; needed: \[1, 128"),
        ("vgg16", r"is \[1, 512, 1, 1\]; needed: \[1, 384"),
    ):
        settings = config(tmp_path)
        save_file(heads(trunk), tmp_path / "heads.safetensors")
        with pytest.raises(ConfigError, match=said):
            build_extractor(settings, CPU)
    settings = config(tmp_path)
    save_file({**heads("squeezenet"), "lin6.model.1.weight": -heads("squeezenet")["lin6.model.1.weight"]}, settings.heads)
    with pytest.raises(ConfigError, match="negative somewhere"):
        build_extractor(settings, CPU)
    settings = config(tmp_path, trunk="alexnet")
    save_file(Trunk("vgg16").state_dict(), settings.weights)
    with pytest.raises(ConfigError, match=r"trunk\.safetensors lacks"):
        build_extractor(settings, CPU)


def test_an_untrained_network_gives_a_distance_too() -> None:
    extractor = build_extractor(RandomConfig(), CPU)
    x, y = extractor.extract(images(2, seed=1)), extractor.extract(images(2, seed=2))
    assert (distance(x, x, "layers") == 0).all()
    assert (distance(x, y, "layers") > 0).all()
    assert build_extractor(RandomConfig(), CPU).id == extractor.id != build_extractor(RandomConfig(seed=1), CPU).id
