"""What lies in examples/ runs as it stands, at toy scale."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.run_folder.history import read_history
from tests.started import Started

EXAMPLES = Path(__file__).parents[1] / "examples"
NETWORK = {"depth": 2, "width": 32, "heads": 2}
TOY = [
    "data.transform.size_px=16",
    "data.workers=0",
    "latent_stats.pictures=8",
    *(f"denoiser.{name}={value}" for name, value in NETWORK.items()),
    "training.samples=16",
    "training.batch_size=8",
    "training.dtype=float32",
    "preview.count=2",
    "sampling.steps=1",
]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of twelve small pictures of several sizes."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    numbers = np.random.default_rng(0)
    for index in range(12):
        colours = numbers.integers(0, 256, (24 + index, 32, 3), dtype=np.uint8)
        Image.fromarray(colours).save(folder / f"{index:02d}.png")
    return folder


def told_by(example: str, settings: Mapping[str, str]) -> tuple[str, str]:
    """What a program of examples/ writes to both streams, in a process of its own."""
    program = Started(str(EXAMPLES / example), more=settings)
    said, errors = (text.decode() for text in program.communicate(timeout=250))
    assert program.returncode == 0, errors[-2000:]
    return said, errors


def code_cells() -> list[tuple[str, str]]:
    notebook = json.loads((EXAMPLES / "one_gpu.ipynb").read_text(encoding="utf-8"))
    return [(cell["id"], "".join(cell["source"])) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_quick_start_trains_on_a_folder(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"PICTURES": str(pictures), "OUT": "run", "SETTINGS": " ".join(TOY), "COUNT": "8"}.items():
        monkeypatch.setenv(name, value)
    program = (EXAMPLES / "quickstart.py").read_text(encoding="utf-8")
    assert len(re.findall(r"^# %%", program, re.MULTILINE)) >= 6
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(program, "quickstart.py", "exec"), names)
    assert names["run"].samples_seen == 16 and Image.open("run/first-samples/grid.png").width > 128
    assert {result.estimate.name for result in names["found"].results} == {"precision", "recall"}
    assert "8 pictures in the samples are no more than" in str(names["found"])  # too few for FID, which says so


def test_the_notebook_goes_on_after_a_disconnect(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    with zipfile.ZipFile(tmp_path / "kept" / "pictures.zip", "w") as archive:
        for path in pictures.iterdir():
            archive.write(path, path.name)
    toy = dict(setting.split("=") for setting in TOY)
    for samples in (8, 16):  # a kernel that ended after 8 samples, and a new one
        names: dict[str, Any] = {"__name__": "__main__"}
        for name, cell in code_cells():
            exec(compile(cell, name, "exec"), names)
            if name == "settings":
                assert not names["ON_COLAB"] and not names["ON_KAGGLE"]
                names["SETTINGS"] = {
                    **{key: value for key, value in names["SETTINGS"].items() if key != "denoiser"},
                    **{key: json.loads(value) if value != "float32" else value for key, value in toy.items()},
                    "training.micro_batch_size": 4,
                    "training.samples": samples,
                    "training.optimizer.decay": "constant",  # the length may then change
                }
                names |= {"KEPT": tmp_path / "kept", "ZIP": tmp_path / "kept" / "pictures.zip", "COUNT": 8}
        assert names["run"].samples_seen == samples
    events = [event.name for event in read_history(tmp_path / "kept" / "one-gpu").events]
    assert events.count("start") == events.count("resume") == 1
    assert len(list((tmp_path / "pictures").iterdir())) == 12


def test_the_notebook_is_one() -> None:
    notebook = json.loads((EXAMPLES / "one_gpu.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in notebook["cells"]:
        needed = {"cell_type", "id", "metadata", "source"}
        needed |= {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == needed and re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert all(line.endswith("\n") for line in cell["source"][:-1])
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)


def test_a_control_of_ones_own_is_one_file(tmp_path: Path) -> None:
    settings = [*TOY, "data.source.length=40", "conditioning.semantic.encoder.width=16"]
    said, _ = told_by("own_control.py", {"OUT": str(tmp_path / "run"), "SETTINGS": " ".join(settings)})
    assert said.count("4 pictures in") == 3
    told = json.loads((tmp_path / "run" / "shrunk-4" / "samples.json").read_text())
    assert told["pictures"][0]["controls"] == {"shrunk": "4"} and told["samples_seen"] == 16
    assert "kind: shrunk" in (tmp_path / "run" / "config.yaml").read_text()


MLFLOW = """
import json
from types import SimpleNamespace
def _kept(name):
    return lambda *given, **named: print(json.dumps([name, *map(str, given), named], default=str))
log_params = log_metrics = log_artifact = end_run = set_tag = set_experiment = set_tracking_uri = None
for _name in ("log_params", "log_metrics", "log_artifact", "end_run", "set_tag", "set_experiment", "set_tracking_uri"):
    globals()[_name] = _kept(_name)
def start_run(run_id=None, run_name=None):
    print(json.dumps(["start_run", run_id, run_name]))
    return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "r1"))
"""


def test_a_tracker_of_ones_own_is_one_file(tmp_path: Path) -> None:
    """Trained twice, the second time for longer: the same run goes on there. MLflow is one that prints what it is told."""
    (tmp_path / "mlflow.py").write_text(MLFLOW)
    settings = [*TOY, "data.source.length=40", "conditioning.semantic.encoder.width=16", "training.log_every_samples=8"]
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    told: list[list[list[Any]]] = []
    for samples in (16, 24):
        given = " ".join([*settings, f"training.samples={samples}", f"training.preview_every_samples={samples}"])
        more = {"OUT": str(tmp_path / "run"), "SETTINGS": given, "PYTHONPATH": os.pathsep.join(paths)}
        told.append([json.loads(line) for line in told_by("own_tracker.py", more)[0].splitlines() if line.startswith("[")])
    first, second = told
    assert ["start_run", None, "run"] in first and ["start_run", "r1", "run"] in second
    sent = [[call[-1]["step"] for call in calls if call[0] == "log_metrics"] for calls in told]
    assert sent == [[8, 16], [24]]
    assert any(call[0] == "log_params" for call in first) and not any(call[0] == "log_params" for call in second)
    assert any(call[0] == "log_artifact" for call in first) and second[-1][:2] == ["end_run", "FINISHED"]
    assert (tmp_path / "run" / "config.yaml").read_text().startswith("track:\n- kind: mlflow")


def test_metadata_of_ones_own_are_controls(tmp_path: Path) -> None:
    """Everything at toy scale: drawn, encoded, trained, asked for every column, read off, measured, and shown on a sheet."""
    settings = [*TOY[3:], "data.views=1"]
    counts = {"COUNT": "160", "SHOWN": "48", "ASKED": "3", "MEASURED": "2", "TRAINED": "third-missing"}
    said, errors = told_by("own_metadata.py", {**counts, "OUT": str(tmp_path), "SETTINGS": " ".join(settings)})
    assert "columns not used: operator" in said and "by slide_id: 32 groups to train on, 8 held out" in errors
    found = json.loads((tmp_path / "results.json").read_text())
    trained = found["third-missing"]
    assert set(trained["samples"]) == set(trained["evaluated"]) == {"stain", "magnification", "exposure_ms"}
    assert trained["evaluated"]["stain"]["control_influence"] >= 0 and min(found["real held-out"].values()) > 0.5
    assert Image.open(tmp_path / "third-missing.png").width > 300
    rows = (tmp_path / "third-missing" / "metadata.csv").read_text().splitlines()[1:]
    assert 0.2 < sum(row.split(",")[1] == "" for row in rows) / len(rows) < 0.45
