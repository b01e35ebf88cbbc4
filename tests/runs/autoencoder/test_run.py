"""An autoencoder's run: what it leaves behind, and that it can be used at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from open_ldm.autoencoders import KLConfig, LatentStats, build_autoencoder
from open_ldm.autoencoders.network import build_network
from open_ldm.autoencoders.reconstruct import Reconstructions, psnr_db, reconstruct
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.core.errors import ConfigError
from open_ldm.core.pictures import to_images, to_pixels
from open_ldm.data.holdout import hold_out
from open_ldm.runs.autoencoder import checks
from open_ldm.runs.autoencoder.checks import read_checks, sections_of, write_pictures
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.autoencoder.train import REQUIRED, train_autoencoder
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.sources import open_source
from open_ldm.sources.loader import read_batches
from tests.helpers import randn, randomise
from tests.run_folder.test_report import Page
from tests.runs.autoencoder.conftest import trained
from tests.runs.autoencoder.tiny import tiny_recipe
from tests.runs.tiny import tiny_recipe as tiny_diffusion_recipe

CPU = torch.device("cpu")


def used(run: Path) -> KLConfig:
    return KLConfig(path=str(run / "autoencoder"), channels=4, factor=2)


def test_a_run_leaves_what_it_promises(rgb_run: Path) -> None:
    for name in ("config.yaml", "events.jsonl", "report.html", "exit.json", "data.json"):
        assert (rgb_run / name).stat().st_size > 0
    assert json.loads((rgb_run / "exit.json").read_text())["code"] == 0
    assert sorted(path.name for path in (rgb_run / "autoencoder").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
    ]
    assert not list(rgb_run.glob(".autoencoder*"))
    checks = read_checks(rgb_run)
    assert [check.samples_seen for check in checks] == [24, 48]
    assert all(check.pictures == 6 and check.worst_psnr_db < check.mean_psnr_db for check in checks)
    assert all(len(check.channels_psnr_db) == 3 for check in checks)
    for file in checks[-1].files:
        assert Image.open(rgb_run / file).width > 3 * 16


def test_the_report_tells_of_reconstructions_and_not_of_sampling(rgb_run: Path) -> None:
    page = Page((rgb_run / "report.html").read_text())
    for words in ("Held-out reconstructions", "worst 5 %", "running mean strong", "recipe tiny-autoencoder"):
        assert words in page.text
    assert f"{read_checks(rgb_run)[-1].mean_psnr_db:.2f}" in page.text
    assert len(page.pictures) == 2 and {f"{file}" for file in read_checks(rgb_run)[-1].files} <= set(page.links)
    assert "ldm sample" not in page.text
    assert f"path: {rgb_run}/autoencoder, channels: 4, factor: 2" in page.text


@pytest.mark.parametrize(("count", "shown", "others"), [(6, 3, 3), (5, 3, 2), (3, 3, 0), (2, 8, 0), (40, 4, 4), (1, 1, 0)])
def test_the_others_do_not_repeat_the_worst(
    tmp_path: Path, count: int, shown: int, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets: list[list[int]] = []

    def noted(found: Reconstructions, indices: list[int], display: object) -> Image.Image:
        sheets.append(indices)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(checks, "_above_each_other", noted)
    given = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    psnr = torch.arange(count, 0, -1.0)  # the last is the worst
    found = Reconstructions(given, given, psnr, LatentStats((0.0,), (1.0,)))
    paths = write_pictures(found, shown, tmp_path / "000000000048")
    assert [path.name for path in paths] == [f"000000000048-{name}.png" for name in ("worst", "others")[: 1 + (others > 0)]]
    worst, rest = (*sheets, [])[:2]
    assert worst == list(range(count))[::-1][:shown] and len(set(rest)) == len(rest) == others
    assert not set(worst) & set(rest) and rest == sorted(rest, reverse=True) and (not rest or rest[-1] == 0)


def test_an_older_run_that_wrote_one_picture_twice_shows_it_once(rgb_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(rgb_run, tmp_path / "run"))
    worst, others = read_checks(run)[-1].files
    shutil.copy(run / worst, run / others)
    (section,) = sections_of(run)
    assert [picture.caption for picture in section.pictures] == ["From the worst to the best, by PSNR"]


def test_the_exported_autoencoder_is_the_averaged_one(rgb_run: Path) -> None:
    recipe = load_autoencoder_recipe(str(rgb_run))
    newest, _ = CheckpointFolder(rgb_run / "checkpoints", required=REQUIRED).newest()
    assert newest is not None
    network = build_network(recipe.network, 0)
    network.load_state_dict(dict(newest.files["ema"]))
    network.requires_grad_(False)
    autoencoder = build_autoencoder(used(rgb_run), CPU)
    images = randn(2, 3, 16, 16).clamp(-1, 1)
    wanted = network.encode(images)
    found = autoencoder.encode(images)
    torch.testing.assert_close(found.mean, wanted.mean)
    torch.testing.assert_close(found.std, wanted.std)
    torch.testing.assert_close(autoencoder.decode(found.mean), network.decode(wanted.mean))


def test_what_is_reported_is_measured_on_pictures_never_trained_on(rgb_run: Path) -> None:
    recipe = load_autoencoder_recipe(str(rgb_run))
    parts = hold_out(open_source(recipe.data.source), 6, recipe.training.seed)
    ranges = [range(4 * i, 4 * i + 4) for i in range(12)]
    seen = read_batches(parts.training, recipe.data.transform, seed=recipe.training.seed, position_ranges=ranges, workers=0)
    trained_on = {name for batch in seen for name in batch.ids}
    held = next(read_batches(parts.held_out, recipe.data.transform, seed=0, position_ranges=[range(6)], workers=0))
    assert len(set(held.ids)) == 6 and not trained_on & set(held.ids)
    autoencoder = build_autoencoder(used(rgb_run), CPU)
    decoded = to_pixels(autoencoder.decode(autoencoder.encode(to_images(held.pixels)).mean))
    psnr = sorted(psnr_db(decoded, held.pixels).tolist())
    check = read_checks(rgb_run)[-1]
    assert np.mean(psnr) == pytest.approx(check.mean_psnr_db, abs=0.01)
    assert psnr[0] == pytest.approx(check.worst_psnr_db, abs=0.01)
    green = psnr_db(decoded[:, 1], held.pixels[:, 1]).mean()
    assert float(green) == pytest.approx(check.channels_psnr_db[1], abs=0.01)


def test_psnr_by_hand() -> None:
    given = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    found = torch.tensor([[0, 0, 0, 0], [255, 255, 255, 255], [10, 0, 0, 0]], dtype=torch.uint8).view(3, 1, 2, 2)
    wanted = [10 * np.log10(255**2 / 0.25), 0, 10 * np.log10(255**2 / 25)]
    np.testing.assert_allclose(psnr_db(found, given), wanted)


def test_the_worst_come_first() -> None:
    network = randomise(build_network(load_autoencoder_recipe("photos-autoencoder").network, 0)).requires_grad_(False)
    images = randn(40, 3, 16, 16).clamp(-1, 1)
    found = reconstruct(network, [images[:25], images[25:]])
    ordered = found.psnr_db[found.order].tolist()
    assert ordered == sorted(ordered)
    assert found.worst_psnr_db == pytest.approx(sum(ordered[:2]) / 2)  # 5 % of 40
    posterior = network.encode(images)
    variance = posterior.mean.var(dim=(0, 2, 3), correction=0) + posterior.std.square().mean(dim=(0, 2, 3))
    np.testing.assert_allclose(found.stats.std, variance.sqrt(), rtol=1e-4)


def test_scaling_factor_gives_deviation_1(rgb_run: Path) -> None:
    content = json.loads((rgb_run / "autoencoder" / "config.json").read_text())
    recipe = load_autoencoder_recipe(str(rgb_run))
    parts = hold_out(open_source(recipe.data.source), 6, recipe.training.seed)
    held = next(read_batches(parts.held_out, recipe.data.transform, seed=0, position_ranges=[range(6)], workers=0))
    posterior = build_autoencoder(used(rgb_run), CPU).encode(to_images(held.pixels))
    assert posterior.std is not None
    variance = posterior.mean.var(correction=0) + posterior.std.square().mean()
    assert content["scaling_factor"] == pytest.approx(float(variance**-0.5), rel=1e-3)


def test_a_denoiser_trains_and_draws_behind_it(grey_run: Path, tmp_path: Path) -> None:
    setting = f"autoencoder={{kind: kl, path: {grey_run}/autoencoder, channels: 4, factor: 2}}"
    overrides = [setting, "training.samples=8", "training.preview_every_samples=8", "denoiser.patch=2"]
    recipe = load_recipe(str(tiny_diffusion_recipe(tmp_path)), overrides)
    assert train(recipe, tmp_path / "run", silent=True).code == 0
    picture = np.asarray(Image.open(tmp_path / "run" / "samples" / "000000000008.png").convert("RGB")).astype(int)
    # Grey pictures on white paper with grey captions: all but the captions' ink has three equal channels.
    inside = picture[8:100, 8:100]
    assert inside.std() > 0 and (inside.max(axis=2) == inside.min(axis=2)).all()
    with pytest.raises(ConfigError, match=r"holds an autoencoder; needed: a run of ldm train; fix: .*autoencoder.path="):
        load_run(grey_run)


def test_a_grey_run_is_checked_at_its_end(grey_run: Path) -> None:
    assert [check.samples_seen for check in read_checks(grey_run)] == [48]
    assert json.loads((grey_run / "autoencoder" / "config.json").read_text())["in_channels"] == 1


def test_a_finished_run_does_nothing_more(rgb_run: Path) -> None:
    before = {path: path.read_bytes() for path in (rgb_run / "autoencoder").iterdir()}
    result = train_autoencoder(load_autoencoder_recipe(str(rgb_run)), rgb_run, silent=True)
    assert (result.code, result.samples_seen) == (0, 48)
    assert {path: path.read_bytes() for path in (rgb_run / "autoencoder").iterdir()} == before
    assert "Held-out reconstructions" in (rgb_run / "report.html").read_text()


@pytest.mark.parametrize("change", ["loss.kl=0.1", "network.latent_channels=3", "held_out.pictures=7", "training.seed=4"])
def test_a_run_goes_on_with_its_own_settings_only(rgb_run: Path, change: str) -> None:
    recipe = load_autoencoder_recipe(str(rgb_run), [change])
    with pytest.raises(ConfigError, match=change.replace("=", ".*now ").replace("pictures.*", "pictures=6 .*")):
        train_autoencoder(recipe, rgb_run, silent=True)


def test_what_is_shown_may_change(rgb_run: Path) -> None:
    recipe = load_autoencoder_recipe(str(rgb_run), ["held_out.shown=2", "training.log_every_samples=8"])
    assert train_autoencoder(recipe, rgb_run, silent=True).code == 0


MISTAKES = [
    ("network.in_channels=4", "4, but the pictures have 3 channels; needed: the same number, or RGB and 1 for grey"),
    ("data.transform.size_px=17", "multiples of 2"),
    ("loss.scales=5", "too small for loss.scales=5"),
    ("network.width=[8]", "did you mean 'widths'"),
    ("network.widths=[8, 10]", "multiples of groups=4"),
    ("held_out.pictures=21", "at most half"),
]


@pytest.mark.parametrize(("override", "said"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_mistakes_are_answered_in_one_line(override: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        trained(tmp_path, override)
    assert said in caught.value.one_line() and "\n" not in caught.value.one_line()


def test_each_command_knows_the_other_ones_recipes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trains an autoencoder; .*fix: use ldm autoencoder train"):
        load_recipe(str(tiny_recipe(tmp_path)))
    with pytest.raises(ConfigError, match=r"trains a denoiser; .*fix: use ldm train"):
        load_autoencoder_recipe("demo")


def test_a_bad_picture_is_counted(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number:03d}.png")
    (tmp_path / "pictures" / "003.png").write_bytes(b"")
    run = trained(tmp_path, f"data.source={{kind: folder, path: {tmp_path / 'pictures'}}}", "training.samples=4")
    assert json.loads((run / "health.json").read_text())["bad"] == {"empty file": ["003.png"]}
    assert len(read_checks(run)) == 1
