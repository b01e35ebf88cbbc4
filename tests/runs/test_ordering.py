"""Which order a run reads its samples in: chosen when it begins, kept when it goes on, told on the first screen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from open_ldm.cli.main import main
from open_ldm.core.config import to_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import read_events
from open_ldm.data import order_config
from open_ldm.data.order_config import GlobalOrderConfig, WindowedOrderConfig, choose_order
from open_ldm.data.windowed_order import WindowedOrder
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.ordering import order_of, settle_order, tell_order
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train
from open_ldm.sources.loader import open_data
from tests.runs.tiny import losses, tiny_recipe

BEGUN = Path(__file__).parent / "begun_before" / "dit-pixels"
WINDOWED = "data.order={kind: windowed, streams: 4, window: 6}"
SHORT = ["training.samples=16", "training.checkpoint_every_samples=8", "data.views=2", "preview.count=1", "denoiser.depth=1"]


def recipe(folder: Path, *changes: str) -> Recipe:
    return load_recipe(str(tiny_recipe(folder)), changes)


def hashes(run: Path) -> dict[str, str]:
    manifest = json.loads((max((run / "checkpoints").iterdir()) / "MANIFEST.json").read_text())
    return {name: described["sha256"] for name, described in manifest["files"].items()}


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every data set counts as one of more than a million samples."""
    monkeypatch.setattr(order_config, "WINDOWED_ABOVE", 10)


def test_new_runs_of_many_samples_are_windowed(many: None) -> None:
    assert choose_order(None, 11, buckets=False).config == WindowedOrderConfig(streams=1024, window=8192)
    assert choose_order(None, 10, buckets=False).config == GlobalOrderConfig()
    assert choose_order(None, 11, buckets=True).config == GlobalOrderConfig()
    assert choose_order(GlobalOrderConfig(), 11, buckets=False).config == GlobalOrderConfig()


def test_a_stopped_run_goes_on_bit_equal_and_the_same_from_a_cache(tmp_path: Path) -> None:
    train(recipe(tmp_path, *SHORT, WINDOWED), tmp_path / "whole", silent=True)
    train(recipe(tmp_path, *SHORT, WINDOWED, "training.samples=8"), tmp_path / "broken", silent=True)
    train(recipe(tmp_path, *SHORT, WINDOWED), tmp_path / "broken", silent=True)
    train(recipe(tmp_path, *SHORT, WINDOWED, f"cache.path={tmp_path / 'cache'}"), tmp_path / "cached", silent=True)
    assert hashes(tmp_path / "broken") == hashes(tmp_path / "whole")
    assert losses(tmp_path / "cached") == losses(tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"data\.order"):
        train(recipe(tmp_path, *SHORT, "data.order={kind: global}"), tmp_path / "broken", silent=True)


def test_a_new_run_keeps_what_it_chose_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(order_config, "WINDOWED_ABOVE", 10)
        train(recipe(tmp_path, *SHORT, "training.samples=8"), tmp_path / "run")
    assert (
        "samples in windowed order (1,024 streams, windows of 8,192), since there are more than 10" in capsys.readouterr().err
    )
    written = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["data"]["order"]
    assert written == {"kind": "windowed", "streams": 1024, "window": 8192}
    train(recipe(tmp_path, *SHORT, "training.samples=12"), tmp_path / "run")
    assert "windowed order (1,024 streams, windows of 8,192), as the run began" in capsys.readouterr().err
    settled, chosen = settle_order(recipe(tmp_path), open_data(recipe(tmp_path).data), begun=False)
    assert yaml.safe_load(to_yaml(settled))["data"]["order"] == {"kind": "global"}
    assert chosen.sentence() == "samples in global order, since there are no more than 1,000,000"


def test_a_stored_run_without_the_key_goes_on_in_global_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(BEGUN, tmp_path, dirs_exist_ok=True)
    shutil.copytree("run", "twin")
    for run, above in (("run", 1_000_000), ("twin", 10)):
        monkeypatch.setattr(order_config, "WINDOWED_ABOVE", above)
        with pytest.raises(SystemExit) as ended:
            main(["train", "recipe.yaml", "training.samples=64", "--out", run])
        assert ended.value.code == 0
    assert hashes(Path("twin")) == hashes(Path("run"))
    begun = [event for event in read_events(Path("twin/events.jsonl")) if event.name in ("start", "resume")]
    assert len({event.fields["fingerprint"]["recipe"] for event in begun}) == 1
    assert load_recipe("twin").data.order == GlobalOrderConfig()


def test_a_resolved_recipe_of_the_schema_before_is_global(tmp_path: Path, many: None) -> None:
    content = yaml.safe_load(to_yaml(recipe(tmp_path)))
    content["recipe_schema"] = 2
    (tmp_path / "stored.yaml").write_text(yaml.safe_dump(content))
    assert load_recipe(str(tmp_path / "stored.yaml")).data.order == GlobalOrderConfig()
    assert recipe(tmp_path).data.order is None
    stored, new = load_recipe(str(tmp_path / "stored.yaml")), recipe(tmp_path)
    assert stored.numerics == new.numerics != recipe(tmp_path, WINDOWED).numerics


class _Labelled:
    """Ten thousand pictures of ten classes, one class after the other, in shards of a hundred."""

    class_names = tuple("abcdefghij")
    shard_sizes = np.full(100, 100, dtype=np.int64)

    def __len__(self) -> int:
        return 10_000

    def label_of(self, index: int) -> int:
        return index // 1000


@pytest.mark.parametrize(
    ("settings", "about"), [("streams: 256, window: 100", (9.0, 10.0)), ("streams: 1, window: 100", (1, 2.5))]
)
def test_the_balance_of_classes_is_told(tmp_path: Path, settings: str, about: Sequence[float]) -> None:
    source = _Labelled()
    asked = recipe(tmp_path, f"data.order={{kind: windowed, {settings}}}", "training.batch_size=64")
    settled, chosen = settle_order(asked, source, begun=False)  # type: ignore[arg-type]
    order = order_of(settled, source, None)  # type: ignore[arg-type]
    assert isinstance(order, WindowedOrder) and len(order.sizes) == 100
    told = tell_order(settled, source, chosen)  # type: ignore[arg-type]
    shown = float(told.sentence.split(" shows ")[1].split()[0])
    assert about[0] <= shown <= about[1] and "of 10 classes, in global order 9.9" in told.sentence


def test_what_windows_do_not_suit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="buckets"):
        recipe(tmp_path, WINDOWED, "data.transform.buckets={}")
    with pytest.raises(ConfigError, match="autoencoder"):
        load_autoencoder_recipe("demo-autoencoder", [WINDOWED])


def test_sources_without_shards_count_as_blocks(tmp_path: Path) -> None:
    settled = recipe(tmp_path, WINDOWED)
    order = order_of(settled, open_data(settled.data), None)
    assert isinstance(order, WindowedOrder) and order.sizes.tolist() == [6] * 8 + [2]
