from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.features import InceptionConfig, build_extractor
from open_ldm.evaluation.features.inception import SPATIAL, InceptionV3
from open_ldm.evaluation.features.inception_blocks import block_a, block_e, largest_neighbour, mean_of_neighbours
from tests.evaluation.sets import CPU, images
from tests.helpers import randn

# Szegedy et al. 2015, Table 1 (sides, channels), with the two 1x1 and 3x3 convolutions of the published network.
SHAPES = {
    "Conv2d_1a_3x3": (32, 149),
    "Conv2d_2a_3x3": (32, 147),
    "Conv2d_2b_3x3": (64, 147),
    "Conv2d_3b_1x1": (80, 73),
    "Conv2d_4a_3x3": (192, 71),
    "Mixed_5b": (256, 35),
    "Mixed_5c": (288, 35),
    "Mixed_5d": (288, 35),
    "Mixed_6a": (768, 17),
    "Mixed_6b": (768, 17),
    "Mixed_6c": (768, 17),
    "Mixed_6d": (768, 17),
    "Mixed_6e": (768, 17),
    "Mixed_7a": (1280, 8),
    "Mixed_7b": (2048, 8),
    "Mixed_7c": (2048, 8),
}
PUBLISHED_PARAMETERS = 23_834_568
"""Of Inception v3 without its auxiliary classifier, for 1000 classes."""


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Random weights under which signals neither vanish nor explode, batch norm included."""
    source = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        wanted = InceptionV3().state_dict()
    found = {}
    for name, like in wanted.items():
        if name.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(like.shape, generator=source)
        if name.endswith(("running_var", "bn.weight")):
            found[name] = 1 + 0.2 * noise.abs()
        elif like.ndim > 1:
            found[name] = noise * (2 / like[0].numel()) ** 0.5
        else:
            found[name] = 0.1 * noise
    return found


@pytest.fixture(scope="module", name="file")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    save_file(weights(), path)
    return path


def test_shapes_and_size_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = InceptionV3().eval()
        seen: dict[str, tuple[int, int]] = {}
        for name in SHAPES:
            network.get_submodule(name).register_forward_hook(
                lambda _module, _given, output, name=name: seen.update({name: (output.shape[1], output.shape[2])})
            )
        output = network(torch.zeros(2, 3, 299, 299))
    assert seen == SHAPES
    assert output.shape == (2, 2048)
    assert sum(each.numel() for each in network.parameters()) == PUBLISHED_PARAMETERS + 8 * (2048 + 1)
    assert network.fc.weight.shape == (1008, 2048)


def test_names_are_those_of_the_published_file() -> None:
    with torch.device("meta"):
        names = set(InceptionV3().state_dict())
    published = [
        "Conv2d_1a_3x3.conv.weight", "Conv2d_4a_3x3.bn.running_var", "Mixed_5b.branch5x5_2.bn.bias",
        "Mixed_5d.branch_pool.conv.weight", "Mixed_6a.branch3x3dbl_3.conv.weight", "Mixed_6e.branch7x7dbl_5.conv.weight",
        "Mixed_7a.branch7x7x3_4.conv.weight", "Mixed_7b.branch3x3_2b.conv.weight", "Mixed_7c.branch3x3dbl_3a.bn.weight",
        "fc.weight", "fc.bias",
    ]  # fmt: skip
    assert set(published) <= names
    assert len({name for name in names if name.endswith("conv.weight")}) == 94


def test_a_mean_at_the_edge_counts_what_is_there() -> None:
    ones = torch.ones(1, 1, 4, 4)
    assert mean_of_neighbours(ones).equal(ones)
    assert not F.avg_pool2d(ones, 3, 1, 1).equal(ones)
    assert largest_neighbour(-ones).equal(-ones)
    assert block_a(192, 32).pool is mean_of_neighbours
    assert block_e(8, largest_neighbour).pool is largest_neighbour
    network = InceptionV3()
    assert network.Mixed_7b.pool is mean_of_neighbours
    assert network.Mixed_7c.pool is largest_neighbour


def test_a_block_is_its_branches_written_out() -> None:
    block = block_e(8, largest_neighbour).eval()
    x = randn(1, 8, 8, 8)

    def run(value: Tensor, *names: str) -> Tensor:
        for name in names:
            conv = block.get_submodule(name)
            kernel = conv.conv.weight
            value = F.conv2d(value, kernel, padding=(kernel.shape[2] // 2, kernel.shape[3] // 2))
            norm = (value - conv.bn.running_mean.view(1, -1, 1, 1)) / (conv.bn.running_var.view(1, -1, 1, 1) + 0.001).sqrt()
            value = (norm * conv.bn.weight.view(1, -1, 1, 1) + conv.bn.bias.view(1, -1, 1, 1)).clamp(min=0)
        return value

    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.copy_(tensor + 0.3 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(len(tensor))))
    wanted = torch.cat(
        [
            run(x, "branch1x1"),
            run(x, "branch3x3_1", "branch3x3_2a"),
            run(x, "branch3x3_1", "branch3x3_2b"),
            run(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a"),
            run(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3b"),
            run(F.max_pool2d(x, 3, 1, 1), "branch_pool"),
        ],
        dim=1,
    )
    with torch.no_grad():
        torch.testing.assert_close(block(x), wanted, rtol=1e-4, atol=1e-5)


def test_extractor_gives_features_and_probabilities(file: Path) -> None:
    extractor = build_extractor(InceptionConfig(path=str(file)), CPU)
    found = extractor.extract(images(2, 24))
    assert found.vectors.shape == (2, extractor.dim) == (2, 2048)
    assert found.probabilities is not None
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(2))
    assert float(found.vectors.std()) > 1e-3
    assert not found.vectors[0].allclose(found.vectors[1])
    logits = found.vectors @ weights()["fc.weight"].T  # without the bias
    torch.testing.assert_close(found.probabilities, logits.softmax(dim=1), rtol=1e-4, atol=1e-6)
    assert "299x299 px as TensorFlow 1" in extractor.id.resize
    assert len(extractor.id.weights) == 64


def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in weights().items() if not name.startswith("Mixed_7c.branch_pool")}
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=r"x\.safetensors lacks 5 of 472 tensors, Mixed_7c\.branch_pool\.bn\.bias first"):
        build_extractor(InceptionConfig(path=str(tmp_path / "x.safetensors")), CPU)


def test_spatial_features_are_the_first_channels_of_one_branch(file: Path) -> None:
    """Against a hook on that branch in a whole pass: position by position, the channels of a position side by side."""
    pool = build_extractor(InceptionConfig(path=str(file)), CPU)
    spatial = build_extractor(InceptionConfig(path=str(file), layer="spatial"), CPU)
    assert (spatial.dim, spatial.id.name) == (17 * 17 * 7, SPATIAL) and spatial.id.weights == pool.id.weights
    seen: list[Tensor] = []
    branch = pool.network.Mixed_6d.get_submodule("branch1x1")  # type: ignore[attr-defined]
    hook = branch.register_forward_hook(lambda module, given, out: seen.append(out))
    pool.extract(images(2))
    hook.remove()
    found = spatial.extract(images(2))
    assert found.probabilities is None and found.vectors.shape == (2, 2023)
    for row, column, channel in ((0, 0, 0), (3, 11, 6), (16, 16, 2)):
        expected = seen[0][:, channel, row, column]
        torch.testing.assert_close(found.vectors[:, (row * 17 + column) * 7 + channel], expected)
