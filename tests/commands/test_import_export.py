"""Published weights become runs that draw, and runs become folders that diffusers loads: same numbers all the way."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.import_export import export_to_diffusers, import_weights
from open_ldm.conditioning import ConditionInputs
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.denoisers.blocks.positions import ResampledPositions
from open_ldm.interop.catalogue import FAMILIES, NAMES
from open_ldm.interop.files import read_weights
from open_ldm.process.resolution import ResolutionConfig
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.runs.recipe import load_recipe
from open_ldm.transfer_learning.start import Started
from tests.helpers import randn, relative
from tests.interop import layouts

CLASSES, WIDTH, DEPTH, HEADS, SIDE = 5, 48, 3, 3, 8


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AutoencoderKL

    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, **blocks).save_pretrained(folder)
    return folder


def original_dit(positions: bool = True) -> dict[str, Tensor]:
    """A file in the layout of the original DiT, every number random; its position table the published one or random too."""
    from open_ldm.denoisers.blocks.positions import GridPositions, Positions

    grid = SIDE // 2
    table = Positions(GridPositions(), WIDTH)((grid, grid), torch.device("cpu")).unsqueeze(0)
    state = layouts.original_dit(DEPTH, WIDTH, 4, 2, CLASSES)
    return state | {"pos_embed": table if positions else randn(1, grid * grid, WIDTH)}


def predicted(run: LoadedRun, x_t: Tensor) -> Tensor:
    """Both halves of the network's output for classes 0, 3 and the null class at the middle of the schedule."""
    labels, keep = torch.tensor([0, 3, 0]), torch.tensor([True, True, False])
    inputs = ConditionInputs(keep_semantic=keep, keep_control=torch.ones(3, dtype=torch.bool), labels=labels)
    prediction = run.model.predict(x_t, torch.full((3,), 0.5), inputs)
    assert prediction.variance_fraction is not None
    return torch.cat([prediction.mean, prediction.variance_fraction], dim=1)


def imported(tmp_path: Path, source: Path, autoencoder: Path, *overrides: str) -> LoadedRun:
    more = [f"autoencoder.path={autoencoder}", "autoencoder.factor=2", f"denoiser.heads={HEADS}", "training.dtype=float32"]
    run = tmp_path / "imported"
    import_weights("dit-xl-2", source, run, [*more, f"data.transform.size_px={2 * SIDE}", *overrides])
    return load_run(run, "cpu")


def test_an_original_file_becomes_a_run_and_a_diffusers_folder(tmp_path: Path, autoencoder: Path) -> None:
    from diffusers import DiTTransformer2DModel

    state, x_t = original_dit(), randn(3, 4, SIDE, SIDE)
    source = tmp_path / "dit.safetensors"
    save_file(state, source)
    run = imported(tmp_path, source, autoencoder)
    ours = predicted(run, x_t)

    folder = export_to_diffusers(tmp_path / "imported", tmp_path / "exported")
    theirs = DiTTransformer2DModel.from_pretrained(folder).eval()
    assert "downscale_freq_shift" in (folder / "README.md").read_text()
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    time = run.model.schedule.network_time(torch.full((3,), 0.5))
    wanted = theirs(x_t, timestep=time, class_labels=torch.tensor([0, 3, CLASSES])).sample
    assert relative(ours, wanted.detach()) < 1e-5
    assert float(wanted.detach().abs().max()) > 0.1

    back = import_weights("dit-xl-2", folder, tmp_path / "back", [*_overrides(autoencoder)])
    assert relative(predicted(load_run(back.run, "cpu"), x_t), ours) == 0


def _overrides(autoencoder: Path) -> list[str]:
    return [
        f"autoencoder.path={autoencoder}",
        "autoencoder.factor=2",
        "training.dtype=float32",
        f"data.transform.size_px={2 * SIDE}",
    ]


def test_the_other_frequency_needs_no_mending_in_diffusers(tmp_path: Path, autoencoder: Path) -> None:
    from diffusers import DiTTransformer2DModel

    source, x_t = tmp_path / "dit.safetensors", randn(3, 4, SIDE, SIDE)
    save_file(original_dit(), source)
    run = imported(tmp_path, source, autoencoder, "denoiser.time_frequency_shift=1")
    folder = export_to_diffusers(tmp_path / "imported", tmp_path / "exported")
    theirs = DiTTransformer2DModel.from_pretrained(folder).eval()
    time = run.model.schedule.network_time(torch.full((3,), 0.5))
    wanted = theirs(x_t, timestep=time, class_labels=torch.tensor([0, 3, CLASSES])).sample
    assert relative(predicted(run, x_t), wanted.detach()) < 1e-5


def test_quirks_stand_in_the_manifest_and_the_recipe(tmp_path: Path, autoencoder: Path) -> None:
    source = tmp_path / "dit.safetensors"
    save_file(original_dit(), source)
    run = imported(tmp_path, source, autoencoder)
    newest = max((tmp_path / "imported" / "checkpoints").iterdir())
    published = json.loads((newest / "MANIFEST.json").read_text())["published"]
    assert published["quirks"]["null class"] == CLASSES
    assert published["quirks"]["sampling.guidance.channels"] == 3
    assert published["quirks"]["sampling.spacing"] == run.recipe.sampling.spacing == "linspace"
    assert published["quirks"]["latent_stats"]["scale"] == pytest.approx(0.18215)
    assert published["layout"] == "original" and len(published["sha256"]) == 64
    assert run.recipe.sampling.guidance.channels == 3
    assert run.recipe.denoiser.geometry.depth == DEPTH


def test_a_table_of_its_own_is_kept(tmp_path: Path, autoencoder: Path) -> None:
    state = original_dit(positions=False)
    source = tmp_path / "dit.safetensors"
    save_file(state, source)
    run = imported(tmp_path, source, autoencoder)
    kept = run.model.denoiser.positions((SIDE // 2, SIDE // 2), torch.device("cpu"))
    assert torch.equal(kept, state["pos_embed"][0])
    with pytest.raises(ConfigError, match="position table"):
        export_to_diffusers(tmp_path / "imported", tmp_path / "exported")


def test_averaged_weights_of_a_training_file_are_preferred(tmp_path: Path, forked_unpickling: None) -> None:
    plain, averaged = original_dit(), {name: tensor + 1 for name, tensor in original_dit().items()}
    source = tmp_path / "0400000.pt"
    torch.save({"model": plain, "ema": averaged, "opt": {"step": 3}, "args": Namespace(lr=1e-4)}, source)
    file = read_weights(source)
    assert file.weights == "ema"
    assert all(torch.equal(file.state[name], averaged[name]) for name in averaged)


def test_every_file_of_a_sharded_folder_counts_and_two_variants_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": randn(2)}, tmp_path / "weights-1-of-2.safetensors")
    save_file({"b": randn(3)}, tmp_path / "weights-2-of-2.safetensors")
    before = read_weights(tmp_path)
    assert set(before.state) == {"a", "b"}
    save_file({"b": randn(3) + 1}, tmp_path / "weights-2-of-2.safetensors")
    assert read_weights(tmp_path).sha256 != before.sha256
    save_file({"b": randn(3).half()}, tmp_path / "weights.fp16.safetensors")
    with pytest.raises(ConfigError, match="holds 'b' twice"):
        read_weights(tmp_path)


class Harmful:
    """An object whose unpickling would create a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


def test_a_pickle_with_code_is_refused_in_one_line_and_runs_nothing(tmp_path: Path) -> None:
    source, harm = tmp_path / "bad.pt", tmp_path / "harm"
    torch.save({"model": {"a": torch.zeros(2)}, "extra": Harmful(str(harm))}, source)
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors") as caught:
        read_weights(source)
    assert "\n" not in caught.value.one_line() and "Unsupported global" in caught.value.one_line()
    assert "add_safe_globals" not in caught.value.one_line()
    assert not harm.exists()


def test_a_file_that_is_no_pickle_is_refused_without_advice_to_run_it(tmp_path: Path, forked_unpickling: None) -> None:
    source = tmp_path / "bad.pt"
    source.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors") as caught:
        read_weights(source)
    assert "weights_only" not in caught.value.one_line() and "no message" not in caught.value.one_line()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blocks.1.attn.qkv.bias": None}, "lacks blocks.1.attn.qkv.bias"),
        ({"blocks.1.attn.extra": randn(2)}, "also holds blocks.1.attn.extra"),
        ({"blocks.1.attn.qkv.bias": randn(5)}, "qkv.bias has shape"),
        ({"blocks.1.attn.qkv.bias": torch.full((3 * WIDTH,), torch.nan)}, "NaN"),
    ],
)
def test_a_file_that_does_not_fit_leaves_no_run(
    change: dict[str, Tensor | None], said: str, tmp_path: Path, autoencoder: Path
) -> None:
    state = {name: tensor for name, tensor in (original_dit() | change).items() if tensor is not None}
    source = tmp_path / "dit.safetensors"
    save_file(state, source)
    with pytest.raises(CheckpointError, match=said):
        imported(tmp_path, source, autoencoder)
    assert not CheckpointFolder(tmp_path / "imported" / "checkpoints").names()


def test_half_precision_comes_in_as_it_is(tmp_path: Path, autoencoder: Path) -> None:
    state = {name: tensor.half() for name, tensor in original_dit().items()}
    source = tmp_path / "dit.safetensors"
    save_file(state, source)
    imported(tmp_path, source, autoencoder)
    (ema,) = (tmp_path / "imported" / "checkpoints").glob("*/ema.safetensors")
    ours = load_file(ema)
    assert torch.equal(ours["denoiser.blocks.1.mlp.fc1.weight"].half(), state["blocks.1.mlp.fc1.weight"])
    assert "denoiser.positions.table" in ours  # its rounded table is not the computed one, so it is kept


def test_every_published_model_samples_on_the_steps_of_its_own_paper() -> None:
    sampling = {name: load_recipe(FAMILIES[kind].recipe).sampling for name, kind in NAMES.items()}
    assert {name: (one.solver, one.steps, one.spacing, one.time_shift) for name, one in sampling.items()} == {
        "dit-xl-2": ("ddpm", 250, "linspace", 1),
        "ldm-4-g": ("ddim", 250, "ldm_uniform", 1),
        "mdtv2-xl-2": ("ddpm", 250, "linspace", 1),
        "pixart-xl-2": ("dpmpp_2m", 20, "time_uniform", 1),
        "sd3-medium": ("euler", 28, "linspace", 3),
    }


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dit-xl-2"):
        import_weights("dit-xxl", tmp_path, tmp_path / "run")


def test_heads_that_do_not_show_must_be_given(tmp_path: Path) -> None:
    source = tmp_path / "dit.safetensors"
    save_file(original_dit(), source)
    with pytest.raises(ConfigError, match="heads cannot be read from the file"):
        import_weights("dit-xl-2", source, tmp_path / "run")


def test_imported_weights_start_a_run_of_another_size_and_with_other_conditions(tmp_path: Path, autoencoder: Path) -> None:
    source = tmp_path / "dit.safetensors"
    save_file(original_dit(), source)
    run = imported(tmp_path, source, autoencoder).path
    drawn = "data.source={kind: shapes}"
    same = dry_run(load_recipe(str(run), [f"init_from.source={run}", drawn, "init_from.classes=new"])).start
    assert isinstance(same, Started)
    assert {entry.action for entry in same.receipt.entries} == {"kept", "new", "dropped"}
    assert {entry.name for entry in same.receipt.entries if entry.action != "kept"} == {"conditioning.semantic.table.weight"}
    larger = [f"data.transform.size_px={4 * SIDE}", "conditioning.semantic.route=context", "process.learned_variance=false"]
    planned = dry_run(load_recipe(str(run), [f"init_from.source={run}", drawn, *larger]))
    assert isinstance(planned.start, Started) and planned.start.source.samples_seen == 0
    reasons = {entry.name: entry.reason for entry in planned.start.receipt.entries if entry.reason}
    assert reasons["denoiser.context_embedding.weight"] == "context tokens none -> classes"
    assert reasons["denoiser.final_layer.linear.weight"] == "rows of the learned variance"
    assert planned.recipe.process.resolution == ResolutionConfig(from_px=2 * SIDE, to_px=4 * SIDE)
    assert planned.recipe.denoiser.positions == ResampledPositions(rows=SIDE // 2, columns=SIDE // 2)  # type: ignore[union-attr]
