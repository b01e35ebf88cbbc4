"""PixArt's published weights become runs, and runs folders that diffusers loads: same numbers all the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from open_ldm.commands.import_export import export_to_diffusers, import_weights
from open_ldm.conditioning import ConditionInputs
from open_ldm.core.errors import CheckpointError
from open_ldm.interop.pixart import NULL_TOKENS, positions_for
from open_ldm.runs.load import LoadedModel, load_model
from open_ldm.text import TextTokens
from tests.helpers import randn, relative
from tests.interop.layouts import original_pixart

pytestmark = pytest.mark.usefixtures("forked_unpickling")
DEPTH, WIDTH, HEADS, CAPTION, LENGTH, SIDE = 2, 48, 3, 20, 6, 8
SETTINGS = (f"denoiser.heads={HEADS}", "training.dtype=float32")
MASK = torch.arange(LENGTH) < torch.tensor([[LENGTH], [2], [3]])
SIZES, RATIO = torch.tensor([[768.0, 1024.0], [512.0, 512.0], [640.0, 480.0]]), torch.tensor([[0.75], [1.0], [1.25]])


def original_file(folder: Path, multi_scale: bool) -> Path:
    """As PixArt saves it while training: the network and its average, each with its table."""
    from open_ldm.denoisers.blocks.positions import Positions

    state = original_pixart(DEPTH, WIDTH, CAPTION, LENGTH, multi_scale)
    state["pos_embed"] = Positions(positions_for(SIDE, 0.5), WIDTH)((SIDE, SIDE), torch.device("cpu")).unsqueeze(0)
    plain = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    path = folder / "epoch_1.pth"
    torch.save({"state_dict": plain, "state_dict_ema": state, "epoch": 1}, path)
    return path


def predicted(run: LoadedModel, x_t: Tensor, keep: tuple[bool, bool, bool] = (True, True, True)) -> Tensor:
    multi_scale = bool(run.recipe.conditioning.controls)
    inputs = ConditionInputs(
        keep_semantic=torch.tensor(keep),
        keep_control=torch.ones(3, dtype=torch.bool),
        text=TextTokens(randn(3, LENGTH, CAPTION, seed=4), MASK),
        controls={"original_size": SIZES, "aspect_ratio": RATIO} if multi_scale else {},
    )
    prediction = run.model.predict(x_t, torch.full((3,), 0.5), inputs)
    assert prediction.variance_fraction is not None
    return torch.cat([prediction.mean, prediction.variance_fraction], dim=1)


@pytest.mark.parametrize("multi_scale", [False, True])
def test_an_original_file_becomes_a_run_and_a_diffusers_folder(tmp_path: Path, multi_scale: bool) -> None:
    result = import_weights("pixart-xl-2", original_file(tmp_path, multi_scale), tmp_path / "run", SETTINGS)
    run, x_t = load_model(tmp_path / "run", "cpu"), randn(3, 4, 8, 12)
    assert result.weights == "state_dict_ema"
    assert run.recipe.latent_shape == (4, 2 * SIDE, 2 * SIDE)
    ours = predicted(run, x_t)
    manifest = json.loads(next((tmp_path / "run" / "checkpoints").glob("*/MANIFEST.json")).read_text())
    assert manifest["published"]["left_out"] == ["pos_embed"]

    folder = export_to_diffusers(tmp_path / "run", tmp_path / "exported")
    theirs = PixArtTransformer2DModel.from_pretrained(folder).eval()
    added = {"resolution": SIZES, "aspect_ratio": RATIO} if multi_scale else {"resolution": None, "aspect_ratio": None}
    context = torch.where(MASK.unsqueeze(-1), randn(3, LENGTH, CAPTION, seed=4), 0.0)
    wanted = theirs(
        x_t, context, torch.full((3,), 499.0), added_cond_kwargs=added, encoder_attention_mask=MASK.float()
    ).sample.detach()
    assert relative(ours, wanted) < 1e-5 and float(wanted.abs().max()) > 0.1
    assert set(load_file(folder / "conditioning.safetensors")) == {NULL_TOKENS}
    assert ("aspect_ratio" in (folder / "README.md").read_text()) == multi_scale

    import_weights("pixart-xl-2", folder, tmp_path / "back", ["training.dtype=float32"])
    back = load_model(tmp_path / "back", "cpu")
    for keep in ((True, True, True), (True, False, False)):
        assert relative(predicted(back, x_t, keep), predicted(run, x_t, keep)) == 0
    assert relative(predicted(run, x_t, (True, False, False)), ours) > 1e-3


def test_a_folder_without_null_tokens_needs_to_be_told_what_stands_for_them(tmp_path: Path) -> None:
    import_weights("pixart-xl-2", original_file(tmp_path, False), tmp_path / "run", SETTINGS)
    folder = export_to_diffusers(tmp_path / "run", tmp_path / "exported")
    (folder / "conditioning.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks caption_projection\.y_embedding"):
        import_weights("pixart-xl-2", folder, tmp_path / "back", ["training.dtype=float32"])
    import_weights("pixart-xl-2", folder, tmp_path / "zeros", ["conditioning.semantic.null_kind=zeros"])
    assert NULL_TOKENS not in load_model(tmp_path / "zeros", "cpu").model.state_dict()


def test_another_caption_encoder_is_refused_by_shape(tmp_path: Path) -> None:
    source, state = tmp_path / "p.safetensors", original_pixart(DEPTH, WIDTH, CAPTION, LENGTH, False)
    save_file(state | {"pos_embed": randn(1, SIDE**2, WIDTH)}, source)
    with pytest.raises(CheckpointError, match="has shape"):
        import_weights("pixart-xl-2", source, tmp_path / "r", [*SETTINGS, "conditioning.semantic.encoder.models.0.0.width=24"])
