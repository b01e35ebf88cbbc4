"""`autoencoder.dtype=auto`: bf16 where reconstructions allow it, once, and then kept by the run and by the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import nn

from open_ldm.autoencoders import TinyConfig, build_autoencoder
from open_ldm.autoencoders.formats import compare_formats
from open_ldm.commands.data_stats import report_latents
from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.encode import encode
from open_ldm.core.errors import ConfigError, DataError, StoppedError
from open_ldm.core.signals import StopRequest
from open_ldm.encoded.cache.format_record import FormatRecord
from open_ldm.runs.autoencoder_format import require_format_by_name
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train
from open_ldm.studies.speedrun.settings import Choice, Side, resolved
from tests.runs.tiny import last_seen, losses, tiny_recipe

CPU = torch.device("cpu")
HARMLESS, LOSSY = 0.0, 1000.0
"""What is added to the activations of the encoder and taken off again: of 1,000 and a bit bf16 keeps no bit."""


def autoencoder(folder: Path, offset: float) -> Path:
    """An autoencoder of factor 2 that keeps every second pixel of every second row."""
    path = folder / f"autoencoder-{offset:g}"
    if path.exists():
        return path
    network = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for half in (network.encoder, network.decoder):
            for layer in half.layers:
                if isinstance(layer, nn.Conv2d):
                    for channel in range(min(layer.in_channels, layer.out_channels)):
                        layer.weight[channel, channel, 1, 1] = 1
        first, last = network.encoder.layers[0], network.encoder.layers[-1]
        first.bias += offset
        last.bias -= offset
    network.save_pretrained(path)
    return path


def recipe(folder: Path, offset: float, *changes: str, dtype: str = "auto") -> Recipe:
    config = f"autoencoder={{kind: tiny, path: {autoencoder(folder, offset)}, channels: 4, factor: 2, dtype: {dtype}}}"
    small = ["data.views=1", "training.samples=8", "training.checkpoint_every_samples=4", "preview.count=1", "sampling.steps=1"]
    return load_recipe(str(tiny_recipe(folder)), [config, *small, *changes])


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that multiplies bf16 itself."""
    machine_multiplies(True, monkeypatch)


def machine_multiplies(yes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("runs.autoencoder_format", "autoencoders.pretrained"):
        monkeypatch.setattr(f"open_ldm.{module}.multiplies_bf16", lambda device: yes)


def stored(run: Path) -> str:
    """The format in a run's recipe, which leaves float32 out."""
    newest = max((run / "checkpoints").iterdir())
    kept: dict[str, Any] = json.loads((newest / "MANIFEST.json").read_text())["recipe"]["autoencoder"]
    return str(kept.get("dtype", "float32"))


def sections(cache: Path) -> list[str]:
    """Fingerprints of the encoders of a cache's latents."""
    return [json.loads(file.read_text())["made_from"]["autoencoder"] for file in cache.glob("latents-*/section.json")]


def encoder(folder: Path, offset: float, dtype: str) -> str:
    config = recipe(folder, offset, dtype=dtype).autoencoder
    return build_autoencoder(config, CPU).fingerprint


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("offset", "chosen"), [(HARMLESS, "bf16"), (LOSSY, "float32")])
def test_bf16_where_pictures_come_back_as_good(
    offset: float, chosen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe(tmp_path, offset), tmp_path / "run")
    assert stored(tmp_path / "run") == chosen
    said = capsys.readouterr().err
    assert f"autoencoder in {chosen}: 50 pictures come back at" in said and "times as fast" in said
    assert "dtype: auto" not in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.usefixtures("fast")
def test_auto_is_the_named_format_bit_for_bit(tmp_path: Path) -> None:
    found = []
    for dtype in ("auto", "bf16", "float32"):
        train(recipe(tmp_path, HARMLESS, dtype=dtype), tmp_path / dtype, silent=True)
        found.append(losses(tmp_path / dtype))
    assert found[0] == found[1] != found[2]


def test_never_where_bf16_is_imitated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine_multiplies(False, monkeypatch)
    monkeypatch.setattr("open_ldm.runs.autoencoder_format.compare_formats", None)
    train(recipe(tmp_path, HARMLESS), tmp_path / "run")
    assert stored(tmp_path / "run") == "float32"
    assert "autoencoder in float32: this device only imitates bf16" in capsys.readouterr().err
    encode(recipe(tmp_path, HARMLESS, f"cache.path={tmp_path}/cache", dtype="bf16"))
    assert "this device only imitates bf16" in capsys.readouterr().err
    assert sections(tmp_path / "cache") == [encoder(tmp_path, HARMLESS, "bf16")]


def test_a_resumed_run_keeps_its_format_on_any_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine_multiplies(True, monkeypatch)
    train(recipe(tmp_path, HARMLESS), tmp_path / "run", silent=True)
    machine_multiplies(False, monkeypatch)
    train(recipe(tmp_path, HARMLESS, "training.samples=12"), tmp_path / "run")
    assert stored(tmp_path / "run") == "bf16"
    said = capsys.readouterr().err
    assert "autoencoder in bf16, as this run began" in said and "only imitates bf16" in said
    loaded = load_run(tmp_path / "run")
    assert loaded.recipe.autoencoder == recipe(tmp_path, HARMLESS, dtype="bf16").autoencoder
    with pytest.raises(ConfigError, match=r"was started with autoencoder\.dtype=bf16"):
        train(recipe(tmp_path, HARMLESS, "training.samples=16", dtype="float32"), tmp_path / "run", silent=True)


@pytest.mark.parametrize(("begun", "later"), [("bf16", False), ("float32", True)])
def test_a_cache_once_begun_is_finished_with_its_format(
    begun: str, later: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine_multiplies(True, monkeypatch)
    cache = tmp_path / "cache"
    whole = [f"cache.path={cache}", "cache.shard_mb=0.004"]
    encode(recipe(tmp_path, HARMLESS, *whole, dtype=begun), silent=True)
    (one,) = cache.glob("latents-*")
    names = sorted(file.name for file in one.glob("*.safetensors"))
    assert len(names) > 1
    for name in ("index.json", names[-1], names[-1].replace("safetensors", "json")):
        (one / name).unlink()
    machine_multiplies(later, monkeypatch)
    monkeypatch.setattr("open_ldm.runs.autoencoder_format.compare_formats", None)
    encode(recipe(tmp_path, HARMLESS, *whole))
    assert f"autoencoder in {begun}: cache {cache} was begun with it" in capsys.readouterr().err
    assert sections(cache) == [encoder(tmp_path, HARMLESS, begun)]
    assert sorted(file.name for file in one.glob("*.safetensors")) == names
    train(recipe(tmp_path, HARMLESS, *whole), tmp_path / "run", silent=True)
    assert stored(tmp_path / "run") == begun and len(sections(cache)) == 1


def test_a_choice_is_kept_before_a_section_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    asked = recipe(tmp_path, HARMLESS, f"cache.path={cache}")
    machine_multiplies(False, monkeypatch)
    with monkeypatch.context() as broken:
        broken.setattr("open_ldm.commands.encode.build_cache", None)
        with pytest.raises(TypeError):
            encode(asked, silent=True)
    assert sections(cache) == []
    machine_multiplies(True, monkeypatch)
    encode(asked, silent=True)
    assert sections(cache) == [encoder(tmp_path, HARMLESS, "float32")]
    (record,) = cache.glob("autoencoder-*.json")
    record.write_text(record.read_text()[:20])
    with pytest.raises(DataError, match="is damaged"):
        encode(asked, silent=True)


@pytest.mark.usefixtures("fast")
def test_nothing_is_written_when_the_comparison_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(stop: StopRequest) -> None:
        raise StoppedError("stopped")

    cache = tmp_path / "cache"
    with monkeypatch.context() as signalled:
        signalled.setattr(StopRequest, "raise_if_requested", stopped)
        with pytest.raises(StoppedError):
            encode(recipe(tmp_path, HARMLESS, f"cache.path={cache}"), silent=True)
    assert [file for file in cache.rglob("*") if file.is_file() and file.stat().st_size] == []
    encode(recipe(tmp_path, HARMLESS, f"cache.path={cache}"), silent=True)
    assert sections(cache) == [encoder(tmp_path, HARMLESS, "bf16")]


def test_of_two_formats_that_of_these_views_is_the_caches(tmp_path: Path) -> None:
    def write(name: str, fingerprint: str, size: int) -> None:
        (tmp_path / name).mkdir()
        content = {"made_from": {"autoencoder": fingerprint, "transform": {"size": size}}, "rows": 9}
        (tmp_path / name / "section.json").write_text(json.dumps(content))

    record = FormatRecord(tmp_path, {"float32": "f" * 32, "bf16": "b" * 32})
    write("latents-0", "another", 16)
    assert record.read({"size": 16}, 9) is None
    write("latents-1", "b" * 32, 32)
    assert record.read({"size": 16}, 9) == "bf16"
    write("latents-2", "f" * 32, 16)
    assert record.read({"size": 16}, 9) == "float32"
    assert record.read({"size": 32}, 9) == "bf16"
    assert record.read({"size": 32}, 8) == "float32"


@pytest.mark.usefixtures("fast")
def test_a_run_from_another_takes_its_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(recipe(tmp_path, HARMLESS, dtype="float32"), tmp_path / "first", silent=True)
    start = f"init_from={{source: {tmp_path}/first}}"
    train(recipe(tmp_path, HARMLESS, start), tmp_path / "second", silent=True)
    assert stored(tmp_path / "second") == "float32"
    train(recipe(tmp_path, HARMLESS, dtype="bf16"), tmp_path / "third", silent=True)
    machine_multiplies(False, monkeypatch)
    start = f"init_from={{source: {tmp_path}/third}}"
    train(recipe(tmp_path, HARMLESS, start), tmp_path / "fourth", silent=True)
    assert stored(tmp_path / "fourth") == "float32"


@pytest.mark.usefixtures("fast")
def test_looking_at_latents_chooses_nothing_for_the_cache(tmp_path: Path) -> None:
    asked = recipe(tmp_path, HARMLESS, f"cache.path={tmp_path}/cache")
    report_latents(asked, silent=True)
    assert not (tmp_path / "cache").exists()
    assert "dtype: auto" in dry_run(asked).text()
    path = autoencoder(tmp_path, HARMLESS)
    with pytest.raises(ConfigError, match="is settled where a run or a cache begins"):
        build_autoencoder(TinyConfig(path=str(path), factor=2, dtype="auto"), CPU)


@pytest.mark.usefixtures("fast")
def test_what_overflows_is_refused(tmp_path: Path) -> None:
    exact, rounded = (
        build_autoencoder(TinyConfig(path=str(autoencoder(tmp_path, HARMLESS)), factor=2, dtype=dtype), CPU)
        for dtype in ("float32", "bf16")
    )
    batches = [torch.zeros(2, 3, 16, 16), torch.zeros(1, 3, 16, 16)]
    assert compare_formats(exact, rounded, batches).harmless
    next(rounded.network.decoder.parameters())[0] = torch.inf
    found = compare_formats(exact, rounded, batches)
    assert not found.harmless and found.sentence() == "bf16 overflows on some of 3 pictures"


def test_layout_and_the_format_of_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def strides_differ(dtype: str) -> bool:
        built = build_autoencoder(TinyConfig(path=str(path), factor=2, dtype=dtype), CPU)
        weight = built.network.encoder.layers[2].weight
        return bool(weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous())

    path = autoencoder(tmp_path, LOSSY)
    assert [strides_differ(dtype) for dtype in ("float32", "bf16", "fp16")] == [False, True, True]
    latents = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    decoded = {}
    for fast in (False, True):
        machine_multiplies(fast, monkeypatch)
        for dtype in ("float32", "bf16"):
            decoded[dtype, fast] = build_autoencoder(TinyConfig(path=str(path), factor=2, dtype=dtype), CPU).decode(latents)
    torch.testing.assert_close(decoded["bf16", False], decoded["float32", False], rtol=0, atol=1e-6)
    assert float((decoded["bf16", True] - decoded["float32", True]).abs().max()) > 1e-4


def test_a_run_keeps_its_format_where_its_autoencoder_has_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_multiplies(True, monkeypatch)
    train(recipe(tmp_path, HARMLESS), tmp_path / "run", silent=True)
    moved = autoencoder(tmp_path, HARMLESS).rename(tmp_path / "moved")
    machine_multiplies(False, monkeypatch)
    longer = recipe(tmp_path, HARMLESS, f"autoencoder.path={moved}", "training.samples=16")
    assert train(longer, tmp_path / "run", silent=True).code == 0
    assert stored(tmp_path / "run") == "bf16" and last_seen(tmp_path / "run") == 16


def test_what_is_compared_names_its_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="settled by each training for itself"):
        require_format_by_name(recipe(tmp_path, HARMLESS))
    require_format_by_name(recipe(tmp_path, HARMLESS, dtype="bf16"))
    with pytest.raises(ConfigError, match="settled by each training for itself"):
        resolved(Side("base", "photos-latent", ("autoencoder.dtype=auto",)), Choice())
