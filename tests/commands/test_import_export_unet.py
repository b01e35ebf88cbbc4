"""latent-diffusion's published weights become runs, and runs folders that diffusers loads: same numbers all the way."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from open_ldm.commands.import_export import export_to_diffusers, import_weights
from open_ldm.conditioning import ConditionInputs
from open_ldm.core.errors import CheckpointError
from open_ldm.interop.files import read_weights
from open_ldm.runs.load import LoadedModel, load_model
from tests.helpers import randn, relative
from tests.interop.unet_layout import averages_of, original_unet

pytestmark = pytest.mark.usefixtures("forked_unpickling")
CLASSES, CONTEXT = 5, 12
SETTINGS = ("denoiser.heads=2", "training.dtype=float32")
TABLE = "cond_stage_model.embedding.weight"


def original() -> dict[str, Tensor]:
    return original_unet(32, (1, 2), 1, (2,), channels=3, context=CONTEXT, scale_shift=False)


def training_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As Lightning saves it: weights and averages in one state dict, and a class of its own as a key among the callbacks."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module: Any = types.ModuleType(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    parts = name.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    monkeypatch.setitem(sys.modules, name, module)
    state = original()
    counters = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    content = {
        "state_dict": state | averages_of(state) | counters,
        "callbacks": {module.ModelCheckpoint: {"best_model_score": torch.tensor(0.5), "best_model_path": "x"}},
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]}],
    }
    path = folder / "model.ckpt"
    torch.save(content, path)
    return path


def predicted(run: LoadedModel, x_t: Tensor, keep: bool = True) -> Tensor:
    """For classes 0, 3 and 4 at the middle of the schedule."""
    kept = torch.full((3,), keep)
    inputs = ConditionInputs(keep_semantic=kept, keep_control=kept, labels=torch.tensor([0, 3, 4]))
    return run.model.predict(x_t, torch.full((3,), 0.5), inputs).mean.detach()


def test_a_training_file_becomes_a_run_of_its_averages_and_a_diffusers_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = training_file(tmp_path, monkeypatch)
    result = import_weights("ldm-4-g", source, tmp_path / "run", SETTINGS)
    assert result.weights == "model_ema"
    run, x_t = load_model(tmp_path / "run", "cpu"), randn(3, 3, 4, 8)
    assert run.recipe.latent_shape == (3, 64, 64)
    assert (run.recipe.denoiser.kind, run.known.facts.class_names) == ("unet", tuple(map(str, range(CLASSES))))
    manifest = json.loads(next((tmp_path / "run" / "checkpoints").glob("*/MANIFEST.json")).read_text())
    assert manifest["published"]["left_out"] == ["first_stage_model.quant_conv.bias"]
    assert manifest["published"]["quirks"]["latent_stats"]["scale"] == 1.0
    averaged = run.model.state_dict()["denoiser.middle.0.residual.norm_1.weight"]
    assert torch.equal(averaged, 2 * original()["model.diffusion_model.middle_block.0.in_layers.0.weight"])
    ours = predicted(run, x_t)

    folder = export_to_diffusers(tmp_path / "run", tmp_path / "exported")
    theirs = UNet2DConditionModel.from_pretrained(folder).eval()
    table = original()[TABLE]
    wanted = theirs(x_t, torch.full((3,), 499.0), encoder_hidden_states=table[[0, 3, 4]].unsqueeze(1)).sample.detach()
    assert relative(ours, wanted) < 1e-5 and float(wanted.abs().max()) > 0.1
    (beside,) = load_file(folder / "conditioning.safetensors").values()
    assert torch.equal(beside, table)
    assert "null class" in (folder / "README.md").read_text()

    import_weights("ldm-4-g", folder, tmp_path / "back", ["training.dtype=float32"])
    back = load_model(tmp_path / "back", "cpu")
    assert relative(predicted(back, x_t), ours) == 0
    assert relative(predicted(back, x_t, keep=False), predicted(run, x_t, keep=False)) == 0
    assert relative(predicted(run, x_t, keep=False), ours) > 1e-3


def test_a_folder_without_class_tokens_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_weights("ldm-4-g", training_file(tmp_path, monkeypatch), tmp_path / "run", SETTINGS)
    folder = export_to_diffusers(tmp_path / "run", tmp_path / "exported")
    (folder / "conditioning.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"conditioning\.semantic\.table\.weight"):
        import_weights("ldm-4-g", folder, tmp_path / "back", ["training.dtype=float32"])


def test_without_averages_the_weights_themselves_are_taken(tmp_path: Path) -> None:
    state = original()
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": state}, path)
    file = read_weights(path)
    assert file.weights == "state_dict"
    assert all(torch.equal(file.state[name], state[name]) for name in state)


def test_other_classes_in_a_training_file_are_still_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": {}, "callbacks": {types.SimpleNamespace: 1}}))
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
        read_weights(path)
