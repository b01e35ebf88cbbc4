"""`ldm encode`: killed, shared, damaged and verified; and training from what it made.

LDM_KILLS sets the number of kills (default 2, for a quick suite; 30 was run for the record).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from open_ldm.cli.main import main
from open_ldm.commands.encode import encode
from open_ldm.core.errors import CheckpointError, ConfigError, DataError
from open_ldm.encoded.cache.latents import LatentsMaker
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train
from tests.encoded.cache.small_data import content
from tests.runs.tiny import last_seen, losses, tiny_recipe
from tests.started import Program, preload, start

preload("diffusers.models.autoencoders.autoencoder_kl")  # five seconds of each process
KILLS = int(os.environ.get("LDM_KILLS", "2"))
PATIENCE_SECONDS = 240
SMALL_SHARDS = "cache.shard_mb=0.02"
"""Three pictures a file."""


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small autoencoder of factor 2 with random weights."""
    torch.manual_seed(0)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    )
    path = tmp_path_factory.mktemp("kl")
    network.save_pretrained(path)
    return path


def kl(path: Path) -> list[str]:
    return [f"autoencoder={{kind: kl, path: {path}, channels: 4, factor: 2}}", "data.transform.size_px=16"]


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load_recipe(str(tiny_recipe(folder)), ["data.views=2", "training.samples=48", *overrides])


def files(folder: Path) -> int:
    return len(list(folder.rglob("*.safetensors")))


def ended(process: Program) -> None:
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors.decode()


def signalled(process: Program, due: Callable[[], bool], number: int) -> bool:
    """Send a signal when it is due; False when the process ended first."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        if due():
            process.send_signal(number)
            process.wait(PATIENCE_SECONDS)
            return True
        time.sleep(0.001)
    raise AssertionError("encoding did not get on")


@pytest.mark.timeout(600 + 120 * KILLS)
def test_killed_encoding_ends_in_the_bytes_of_an_uninterrupted_one(autoencoder: Path, tmp_path: Path) -> None:
    length = 8 * KILLS
    changes = [*kl(autoencoder), f"data.source.length={length}", "data.views=2"]
    changes += ["cache.batch_size=2", "cache.shard_mb=0.0041"]  # two pictures a file
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = ["encode", str(tiny_recipe(tmp_path)), *changes]
    encode(load_recipe(arguments[1], [*changes, "data.workers=1", f"cache.path={whole}"]), silent=True)

    draw = random.Random(0)
    killed = 0
    for kill in range(KILLS):
        before, more, pause = files(broken), draw.randrange(1, 5), draw.uniform(0, 0.02)

        def due(before: int = before, more: int = more, pause: float = pause) -> bool:
            reached = files(broken) >= before + more
            time.sleep(pause if reached else 0)
            return reached

        process = start([*arguments, f"data.workers={kill % 3}", "--out", str(broken)])
        killed += signalled(process, due, signal.SIGKILL)
        process.communicate()
    ended(start([*arguments, "--out", str(broken)]))

    assert killed == KILLS
    assert files(broken) >= length
    assert content(broken) == content(whole)


def test_two_processes_share_the_work_and_write_nothing_twice(tmp_path: Path) -> None:
    made = [str(tiny_recipe(tmp_path)), "data.views=2", "data.source.length=150", SMALL_SHARDS]
    encode(load_recipe(made[0], [*made[1:], f"cache.path={tmp_path}/alone"]), silent=True)
    shared = tmp_path / "shared"
    both = [start(["encode", *made, "--out", str(shared), "--json"]) for _ in "ab"]
    results = [json.loads(process.communicate(timeout=PATIENCE_SECONDS)[0]) for process in both]
    assert all(process.returncode == 0 for process in both)
    assert sum(result["files_written"] for result in results) == files(shared)
    assert content(shared) == content(tmp_path / "alone")


@pytest.mark.parametrize("semantic", ["text", "class"])
def test_training_from_a_cache_has_the_losses_of_live_encoding(semantic: str, tmp_path: Path) -> None:
    changes = [] if semantic == "text" else ["conditioning.semantic={kind: class}"]
    results = []
    for name, more in {"live": [], "cached": [f"cache.path={tmp_path}/cache", "data.workers=2"]}.items():
        train(recipe(tmp_path, *changes, *more), tmp_path / name, silent=True)
        results.append(losses(tmp_path / name))
    assert results[0] == results[1] and len(results[0]) == 12
    fresh = load_recipe(str(tmp_path / "tiny.yaml"), ["training.samples=48", *changes])
    train(fresh, tmp_path / "fresh", silent=True)
    assert losses(tmp_path / "fresh") != results[0]


def test_losses_behind_an_autoencoder_agree_to_a_millionth(autoencoder: Path, tmp_path: Path) -> None:
    results = []
    for name, more in {"live": [], "cached": [f"cache.path={tmp_path}/cache", "cache.batch_size=3"]}.items():
        train(recipe(tmp_path, *kl(autoencoder), *more), tmp_path / name, silent=True)
        results.append([loss for _, loss in losses(tmp_path / name)])
    assert results[1] == pytest.approx(results[0], rel=1e-6)


@pytest.mark.timeout(600)
def test_a_killed_run_resumes_bit_equal_from_its_cache(tmp_path: Path) -> None:
    changes = ["data.views=2", f"cache.path={tmp_path}/cache"]
    arguments = ["train", str(tiny_recipe(tmp_path)), *changes]
    train(load_recipe(arguments[1], changes), tmp_path / "whole", silent=True)
    broken = tmp_path / "broken"
    process = start([*arguments, "data.workers=1", "--out", str(broken)])
    assert signalled(process, lambda: last_seen(broken) >= 40, signal.SIGKILL)
    process.communicate()
    ended(start([*arguments, "--out", str(broken)]))
    assert losses(broken) == losses(tmp_path / "whole")
    events = [json.loads(line) for line in (broken / "events.jsonl").read_text().splitlines()]
    (resumed,) = [event for event in events if event["event"] == "resume"]
    assert resumed["bitwise"] == "yes"


def test_the_fingerprint_is_that_of_the_stored_bytes(tmp_path: Path) -> None:
    def run(name: str, *more: str) -> str:
        train(recipe(tmp_path, "training.samples=8", *more), tmp_path / name, silent=True)
        first = json.loads((tmp_path / name / "events.jsonl").read_text().splitlines()[0])
        return str(first["fingerprint"]["data"])

    live, cached = run("live"), run("cached", f"cache.path={tmp_path}/cache")
    assert cached != live
    assert run("again", f"cache.path={tmp_path}/other", SMALL_SHARDS.replace("0.02", "16")) == cached
    assert run("coarse", f"cache.path={tmp_path}/cache", "cache.latents=bfloat16") != cached


def test_a_live_run_may_go_on_from_a_cache_but_not_from_a_coarser_one(tmp_path: Path) -> None:
    train(recipe(tmp_path, "training.samples=32"), tmp_path / "run", silent=True)
    with pytest.raises(ConfigError, match=r"cache.latents=float32 \(now bfloat16\)"):
        train(recipe(tmp_path, f"cache.path={tmp_path}/c", "cache.latents=bfloat16"), tmp_path / "run", silent=True)
    train(recipe(tmp_path, f"cache.path={tmp_path}/c"), tmp_path / "run", silent=True)
    train(recipe(tmp_path), tmp_path / "live", silent=True)
    assert losses(tmp_path / "run") == losses(tmp_path / "live")


def test_a_stop_signal_ends_with_75_and_the_same_command_goes_on(autoencoder: Path, tmp_path: Path) -> None:
    made = ["train", str(tiny_recipe(tmp_path)), *kl(autoencoder), "data.source.length=3000", "data.views=2"]
    cache, run = tmp_path / "cache", tmp_path / "run"
    process = start([*made, "cache.shard_mb=0.1", f"cache.path={cache}", "--out", str(run)])
    assert signalled(process, lambda: files(cache) >= 4, signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 75 and errors.decode().splitlines()[-1].startswith("error: encoding was stopped; fix: ")
    assert json.loads((run / "exit.json").read_text())["code"] == 75


def test_verify_mends_damage_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = recipe(tmp_path, f"cache.path={tmp_path}/cache", SMALL_SHARDS)
    encode(made, silent=True)
    before = content(tmp_path / "cache")
    victim = sorted(file for file in (tmp_path / "cache").rglob("latents-*/*.safetensors"))[2]
    flipped = bytearray(victim.read_bytes())
    flipped[-9] ^= 16
    victim.write_bytes(flipped)
    result = encode(made, verify=True)
    assert [victim.name in problem for problem in result.damaged] == [True]
    assert result.files_written == 1 and result.checked is not None and result.checked.difference == 0
    assert content(tmp_path / "cache") == before
    said = capsys.readouterr().err
    assert f"{victim.parent.name}/{victim.name} is damaged: its SHA-256 is not the one recorded; it is made again" in said
    assert encode(made, verify=True, silent=True).damaged == ()
    victim.write_bytes(victim.read_bytes()[:-1])
    assert encode(made, silent=True).files_written == 1  # a wrong length is seen without --verify


def pictures(folder: Path, count: int, broken: int, kind: str = "png") -> Path:
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (20, 24), (number, 2 * number % 256, 9)).save(folder / f"{number:03d}.{kind}")
    for number in range(broken):
        (folder / f"{7 * number:03d}.png").write_bytes(b"no picture")
    return folder


def of_folder(tmp_path: Path, *more: str) -> Recipe:
    source = f"data.source={{kind: folder, path: {tmp_path}/pictures}}"
    return recipe(tmp_path, source, "conditioning.semantic={kind: none}", f"cache.path={tmp_path}/cache", *more)


def test_bad_pictures_count_as_in_live_reading(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", 120, broken=1)
    for name in ("first", "second"):  # the cache is made, then found
        train(of_folder(tmp_path, "training.samples=8"), tmp_path / name, silent=True)
        health: Any = json.loads((tmp_path / name / "health.json").read_text())
        assert health["bad"] == {"not a picture": ["000.png"]}


@pytest.mark.parametrize("cut", [False, True])
def test_a_whole_cache_that_cannot_be_written_is_trained_from(
    cut: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = pictures(tmp_path / "pictures", 120, broken=0) / "007.png"
    if cut:  # with a good header: only who decodes it, or reads the cache, knows
        victim.write_bytes(victim.read_bytes()[:50])
    encode(of_folder(tmp_path), silent=True)
    before, really = content(tmp_path / "cache"), os.open

    def refusing(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if Path(path).is_relative_to(tmp_path / "cache") and flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise PermissionError(13, "Read-only file system", str(path))
        return really(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refusing)
    assert train(of_folder(tmp_path, "training.samples=8"), tmp_path / "run", silent=True).code == 0
    health: Any = json.loads((tmp_path / "run" / "health.json").read_text()) if cut else {"bad": {}}
    assert sum(map(len, health["bad"].values())) == cut and content(tmp_path / "cache") == before


def test_too_many_bad_pictures_end_encoding(tmp_path: Path) -> None:
    pictures(tmp_path / "pictures", 120, broken=3)
    with pytest.raises(DataError, match=r"3 of 120 pictures are bad") as raised:
        encode(of_folder(tmp_path), silent=True)
    assert raised.value.exit_code == 65
    assert len(json.loads((tmp_path / "cache" / "health.json").read_text())["bad"]["not a picture"]) == 3


def test_a_picture_repainted_under_its_name_and_size_makes_new_latents_and_nothing_else(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", 6, broken=0, kind="bmp")
    before = encode(of_folder(tmp_path), silent=True)
    victim = folder / "003.bmp"
    size = victim.stat().st_size
    Image.new("RGB", (20, 24), (200, 100, 50)).save(victim)
    assert victim.stat().st_size == size
    after = encode(of_folder(tmp_path), silent=True, verify=True)
    kept = set(before.sections) & set(after.sections)
    assert {name.split("-")[0] for name in kept} == {"samples"}
    assert [name.split("-")[0] for name in after.unused] == ["latents", "latents"]
    assert after.files_written == 2 and after.checked is not None and after.checked.difference == 0


def test_wrong_entries_are_told_with_the_sections_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(tmp_path, f"cache.path={tmp_path}/cache")
    sections = encode(made, silent=True).sections
    really = LatentsMaker.encode

    def shifted(self: LatentsMaker, batch: Any) -> dict[str, torch.Tensor]:
        new = really(self, batch)
        return {**new, "record": new["record"] + 1} if self.view == 1 else new

    monkeypatch.setattr(LatentsMaker, "encode", shifted)
    (wrong,) = [name for name in sections if name == sections[-1]]
    with pytest.raises(DataError) as raised:
        encode(made, verify=True, entries=0, silent=True)
    length = made.data.source.length  # type: ignore[union-attr]
    said = raised.value
    assert said.problem.startswith(f"{length} of {4 * length} entries in {tmp_path}/cache are wrong, the first: ")
    assert "view 2 of 2: what is stored is not what is made of it now (record)" in said.problem
    assert said.fix == f"rm -r {tmp_path}/cache/{wrong}, and encode again; the other sections can stay"


def exit_code(arguments: list[str]) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_a_cache_has_one_place(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["encode", str(tiny_recipe(tmp_path)), "data.views=1", "data.source.length=12"]
    for given in ("cache.path=c9", "cache={path: c9, batch_size: 4}"):
        assert exit_code([*command, given, "--out", "c8"]) == 2
        assert "cache.path=c9 and --out 'c8' both name the place of the cache; needed: one" in capsys.readouterr().err
    assert not (tmp_path / "c8").exists() and not (tmp_path / "c9").exists()
    assert exit_code([*command, "cache.path=c9", "--out", str(tmp_path / "c9"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 12


def test_the_number_of_entries_is_an_option_of_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["encode", str(tiny_recipe(tmp_path)), "data.views=1", "data.source.length=20", "--out", str(tmp_path / "cache")]
    for given, compared in (["--entries", "2"], 3 * 2), (["--entries", "0"], 3 * 20), ([], 3 * 16):
        assert exit_code([*command, "--verify", *given, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["checked"] == compared
    assert exit_code([*command, "--entries", "2"]) == 2
    assert "--entries 2 has no effect; needed: --verify" in capsys.readouterr().err


def test_an_autoencoder_changed_in_its_place_is_refused(autoencoder: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(autoencoder, tmp_path / "mine")
    shape = ["denoiser.patch=2", *kl(mine)]
    train(recipe(tmp_path, *shape), tmp_path / "run", silent=True)
    network = AutoencoderKL.from_pretrained(mine)
    network.decoder.conv_out.weight.data.mul_(2)
    network.save_pretrained(mine)
    load_run(tmp_path / "run", "cpu")  # another decoder reads the same latents
    network.encoder.conv_in.weight.data.mul_(2)
    network.save_pretrained(mine)
    with pytest.raises(CheckpointError, match="needed: the one this model was trained with"):
        load_run(tmp_path / "run", "cpu")
    with pytest.raises(CheckpointError, match="needed: the one this model was trained with"):
        train(recipe(tmp_path, "training.samples=96", *shape), tmp_path / "run", silent=True)


def test_a_cache_needs_fixed_views(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needed: data\.views, the number of each picture, such as data\.views=4"):
        load_recipe(str(tiny_recipe(tmp_path)), [f"cache.path={tmp_path}/cache"])


@pytest.mark.parametrize("large", [False, True])
def test_a_byte_flipped_in_a_finished_cache_is_found_before_training(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a small section all bytes are compared; of a large one some, and all once those show damage."""
    short = ("training.samples=8", "preview.count=1", f"cache.path={tmp_path}/cache", SMALL_SHARDS)
    train(recipe(tmp_path, *short), tmp_path / "first", silent=True)
    before = content(tmp_path / "cache")
    shards = sorted((tmp_path / "cache").rglob("latents-*/*.safetensors"))
    assert len(shards) > 2
    for victim in shards if large else shards[1:2]:
        spoilt = bytearray(victim.read_bytes())
        spoilt[-1] ^= 1
        victim.write_bytes(spoilt)
    if large:
        monkeypatch.setattr("open_ldm.runs.cache_filler._SPOT_BYTES", 1)
    capsys.readouterr()
    train(recipe(tmp_path, *short), tmp_path / "second")
    assert capsys.readouterr().err.count("is damaged: its SHA-256 is not the one recorded; it is made again") == (
        len(shards) if large else 1
    )
    assert content(tmp_path / "cache") == before
    assert losses(tmp_path / "second") == losses(tmp_path / "first")
