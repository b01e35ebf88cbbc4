"""MDTv2's layout: a file of random numbers comes back to the bit, and becomes a run that gives the reference's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.commands.import_export import import_weights
from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.denoisers import MDTv2Config
from open_ldm.interop.files import WeightFile
from open_ldm.interop.mdtv2 import MDTv2Family, original
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.runs.load import load_model
from tests.denoisers.mdtv2_reference import Reference
from tests.helpers import VIEW, randn, relative
from tests.interop.layouts import original_mdtv2

HALF, DECODER, WIDTH, HEADS, SIDE, CLASSES = 2, 1, 48, 6, 3, 5
CONFIG = MDTv2Config(size="XS", depth=2 * HALF + DECODER, width=WIDTH, heads=HEADS, decode_layers=DECODER)
BY_CLASS = ConditioningConfig(semantic=ClassSemantic(route="modulation"))
FACTS = DataFacts(4, VIEW, class_names=tuple("abcde"), latent_size=(2 * SIDE, 2 * SIDE))
SPEC = ModelSpec(ProcessConfig(learned_variance=True), BY_CLASS, CONFIG, FACTS)


def published() -> dict[str, Tensor]:
    return original_mdtv2(HALF, DECODER, WIDTH, HEADS, SIDE, CLASSES)


def imported(state: dict[str, Tensor], folder: Path, *overrides: str) -> Path:
    save_file(state, folder / "ema_0.9999_000001.safetensors")
    import_weights(
        "mdtv2-xl-2", folder / "ema_0.9999_000001.safetensors", folder / "run", ["training.dtype=float32", *overrides]
    )
    return folder / "run"


def test_an_original_file_comes_back_to_the_bit() -> None:
    state = published()
    layout = MDTv2Family().key_map(SPEC, "original")
    ours = layout.read(state)
    model = DiffusionModel(SPEC)
    model.load_state_dict(ours)  # nothing missing, nothing left over
    back = layout.write(model.state_dict())
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) and back[name].dtype == state[name].dtype for name in state)


def test_the_shapes_tell_of_the_model() -> None:
    said = MDTv2Family().describe(WeightFile(Path("file"), {}, ""), published())
    assert (said.latent_side, said.classes) == (2 * SIDE, CLASSES)
    assert said.settings == {
        "denoiser.depth": CONFIG.depth,
        "denoiser.width": WIDTH,
        "denoiser.heads": HEADS,
        "denoiser.decode_layers": DECODER,
        "denoiser.patch": 2,
        "autoencoder.channels": 4,
        "process.learned_variance": True,
        "sampling.guidance.channels": 3,
    }


def test_an_imported_file_gives_the_references_numbers(tmp_path: Path) -> None:
    loaded = load_model(imported(published(), tmp_path), "cpu")
    x_t, keep = randn(3, 4, 2 * SIDE, 2 * SIDE), torch.tensor([True, True, False])
    inputs = ConditionInputs(keep, torch.ones(3, dtype=torch.bool), labels=torch.tensor([0, 3, 0]))
    t = torch.tensor([0.001, 0.5, 1.0])
    found = loaded.model.predict(x_t, t, inputs)
    assert found.variance_fraction is not None
    time, labels = loaded.model.schedule.network_time(t), torch.tensor([0, 3, CLASSES])
    exact = Reference({name: tensor.double() for name, tensor in published().items()}, HEADS, 2, (SIDE, SIDE))
    wanted = exact(x_t.double(), time, labels)
    assert relative(torch.cat([found.mean, found.variance_fraction], dim=1).double(), wanted) <= 1e-5
    guidance = loaded.recipe.sampling.guidance
    assert (guidance.channels, guidance.semantic_scale, guidance.schedule.kind) == (3, 3.8, "power_cosine")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sideblocks.0.mlp.fc1.bias": None}, "lacks sideblocks.0.mlp.fc1.bias"),
        ({"de_blocks.0.attn.rel_pos_bias.relative_position_index": torch.zeros(9, 9, dtype=torch.long)}, "is not the table"),
        ({"en_inblocks.1.attn.rel_pos_bias.relative_position_bias_table": randn(25, HEADS)}, "has shape"),
    ],
)
def test_a_file_that_does_not_fit_leaves_no_run(change: dict[str, Tensor | None], said: str, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in (published() | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=said):
        imported(state, tmp_path)
    assert not CheckpointFolder(tmp_path / "run" / "checkpoints").names()


def test_what_has_no_published_layout_is_refused() -> None:
    with pytest.raises(ConfigError, match="mask_ratio"):
        original(CONFIG.model_copy(update={"mask_ratio": None}), 4, (SIDE, SIDE))
    with pytest.raises(ConfigError, match="diffusers has no model for mdtv2"):
        MDTv2Family().key_map(SPEC, "diffusers")
