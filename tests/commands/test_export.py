"""An exported pipeline samples what `ldm sample` samples, in a process that cannot import open_ldm."""

from __future__ import annotations

import json
import re
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from open_ldm.autoencoders import LatentStats
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.commands.export.hub import HubError, check_hub_name, push
from open_ldm.commands.export.pipeline import export_pipeline
from open_ldm.commands.export.private import without_places
from open_ldm.commands.sample import check_negative, requests_from, sample_images
from open_ldm.commands.sample_options import SampleOptions, settings_from
from open_ldm.commands.shape import run_of_shape
from open_ldm.controls import ViewShape
from open_ldm.controls.column_facts import ColumnFacts
from open_ldm.core.config import to_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import EventLog
from open_ldm.evaluation.bootstrap import Estimate
from open_ldm.evaluation.protocol import MeasurementProtocol, Result
from open_ldm.evaluation.stored import store
from open_ldm.model.diffusion import build_model
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.spec import DataFacts
from open_ldm.portable.for_diffusers.pipeline import OpenLdmPipeline
from open_ldm.portable.network import OpenLdmNetwork
from open_ldm.portable.scheduler import OpenLdmScheduler
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import Recipe, recipe_from
from tests.blocked import run_without
from tests.helpers import randn
from tests.runs.tiny import DENOISERS, TINY
from tests.text.tiny_models import clip_folder

SIDE, CHANNELS = 16, 4
CLASS = "conditioning.semantic={kind: class, route: %s}"
DDPM = "process={schedule: {kind: linear}, prediction: eps"
METADATA = ("{kind: metadata, column: stain, values: auto}", "{kind: metadata, column: zoom, scale: log}")
COLUMNS = (
    ColumnFacts("stain", 10, 0, words=("HE", "PAS"), usual="HE"),
    ColumnFacts("zoom", 10, 0, scale="log", mean=2.0, std=0.5, smallest=4.0, median=8.0, largest=20.0),
)
CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "mmdit": ([], {"prompt": "a red circle", "controls": {"size": "8x8", "flip": "1"}, "negative_prompt": "blue"}),
    "dit": (
        [CLASS % "context", "sampling.solver=ddpm", DDPM + ", learned_variance: true}"],
        {"class_labels": ["ship", "cat"], "controls": {"size": "9x12"}, "control_scale": 1.0, "num_inference_steps": 4},
    ),
    "unet": (
        [CLASS % "context", f"conditioning.controls=[{', '.join(METADATA)}]"],
        {"class_labels": 1, "controls": {"stain": "PAS", "zoom": 10}},
    ),
    "mdtv2": ([CLASS % "modulation", DDPM + "}"], {"class_labels": "cat"}),
    "pixart": ([], {"prompt": ["a red circle", "a blue square"], "controls": {"size": "32x32"}, "solver": "ddim"}),
}  # fmt: skip
LATENTS = ("dit", "pixart")
PROGRAM = """
import json, sys
from pathlib import Path
import torch
from diffusers import DiffusionPipeline
torch.set_num_threads(1)
for folder, given in json.loads(Path(sys.argv[1]).read_text()).items():
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
    torch.save(pipe(**given, output_type="pt").images, Path(folder) / "sampled.pt")
    assert pipe(**given).images[0].size == (16, 16)
assert "open_ldm" not in sys.modules or sys.modules["open_ldm"] is None
"""


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AutoencoderKL

    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, **blocks).save_pretrained(folder)
    return folder


def run_of(name: str, folder: Path, autoencoder: Path, text: Path, *changes: str) -> Path:
    """A run of random weights, none of them at the zero it starts from: its folder holds one checkpoint."""
    overrides = [*DENOISERS[name], *CASES[name][0], *changes, "sampling.guidance={semantic_scale: 2.5, control_scale: 1.5}"]
    if name in LATENTS:
        kl = {"kind": "kl", "path": str(autoencoder), "factor": 2, "channels": CHANNELS}
        overrides += [f"autoencoder={json.dumps(kl)}", "denoiser.patch=2"]
    if name == "pixart":
        model = {"path": str(text), "length": 12, "width": 32}
        overrides += [f"conditioning.semantic.encoder={json.dumps({'kind': 'huggingface', 'models': [[model]]})}"]
    recipe: Recipe = recipe_from(TINY, overrides, source="recipe")
    channels, *size = recipe.latent_shape
    words = ("a", "blue", "circle", "red", "square") if name == "mmdit" else ()
    classes = () if name in ("mmdit", "pixart") else ("cat", "ship", "a|`b`\n<i>")
    view = ViewShape(SIDE, SIDE, 20, columns=COLUMNS if name == "unet" else ())
    facts = DataFacts(channels, view, classes, words, (size[0], size[1]))
    known = Knowledge(facts, LatentStats((0.1,) * channels, (0.7,) * channels))
    tensors = build_model(recipe.model_spec(facts), 0).state_dict()
    tensors = {
        key: one + 0.1 * randn(*one.shape, seed=len(key)) if one.is_floating_point() else one for key, one in tensors.items()
    }
    run = folder / name
    CheckpointFolder(run / "checkpoints").save(
        0, {"ema": tensors}, {"recipe": recipe.model_dump(mode="json"), **known.to_json()}
    )
    (run / "config.yaml").write_text(to_yaml(recipe))
    return run


def sampled_here(run: Path, given: dict[str, Any]) -> torch.Tensor:
    loaded = load_run(run, "cpu")
    prompts, classes = (
        [one] if isinstance(one, str) else one for one in (given.get("prompt", ()), given.get("class_labels", ()))
    )
    names = loaded.known.facts.class_names
    classes = [names[one] if isinstance(one, int) else one for one in ([classes] if isinstance(classes, int) else classes)]
    options = SampleOptions(negative_prompt=given.get("negative_prompt"))
    settings = settings_from(
        loaded, given.get("num_inference_steps"), given.get("solver"), given.get("guidance_scale"), given.get("control_scale")
    )
    if options.negative_prompt:
        check_negative(loaded, options.negative_prompt, settings)
    controls = {name: str(value) for name, value in given.get("controls", {}).items()}
    requests = requests_from(loaded, prompts, classes, given["num_images"], given["seed"], controls)
    return sample_images(loaded, requests, settings, None, options.negative_prompt)


@pytest.mark.timeout(900)  # five exports and a process of its own, on a machine that does other things too
def test_pipelines_of_all_denoisers_sample_the_same_pictures_without_open_ldm(tmp_path: Path, autoencoder: Path) -> None:
    text = clip_folder(tmp_path / "clip", projected=False)
    wanted, given = {}, {}
    for name, (_, kwargs) in CASES.items():
        run = run_of(name, tmp_path, autoencoder, text)
        kwargs = {**kwargs, "seed": 5, "num_images": 2}
        folder = export_pipeline(run, tmp_path / f"{name}-exported")
        given[str(folder)], wanted[str(folder)] = kwargs, sampled_here(run, kwargs)
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run_without(
        ["open_ldm"],
        ["program.py", "given.json"],
        tmp_path,
        first=f"import os; os.environ['HF_HOME'] = {str(tmp_path / 'hf')!r}",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for folder, ours in wanted.items():
        theirs = torch.load(Path(folder) / "sampled.pt", weights_only=True)
        assert float((theirs - ours).abs().max()) < 1e-5, folder
        assert float(ours.std()) > 0.05 and float((ours[0] - ours[1]).abs().max()) > 0.1


def test_a_pipeline_samples_every_shape_of_a_run_in_buckets(tmp_path: Path, autoencoder: Path) -> None:
    """16x16, the shape of `size_px`, is none of them."""
    buckets = ("data.transform.buckets={ratios: [0.6, 1.6667]}", "data.transform.crop={kind: center}")
    controls = "conditioning.controls=[{kind: original_size}, {kind: aspect_ratio}]"
    run = run_of("mmdit", tmp_path, autoencoder, tmp_path, *buckets, controls)
    folder = export_pipeline(run, tmp_path / "exported")
    scheduler = OpenLdmScheduler.from_pretrained(str(folder / "scheduler"))
    pipe = partial(OpenLdmPipeline(OpenLdmNetwork(folder / "network"), scheduler), "red", num_inference_steps=2)
    loaded = load_run(run, "cpu")
    assert set(loaded.shapes) == {(20, 12), (12, 20)}
    card = (folder / "README.md").read_text()
    assert "for pictures of 20x12, 12x20 px" in card and "`height=` and `width=`" in card and "16x16" not in card
    settings = settings_from(loaded, 2, None, None, None)
    for (height, width), given in ((loaded.shapes[0], {}), *((shape, shape) for shape in loaded.shapes)):
        asked = dict(zip(("height", "width"), given, strict=True)) if given else {}
        images = pipe(**asked, output_type="pt").images
        shaped = run_of_shape(loaded, f"{height}x{width}", None)
        ours = sample_images(shaped, requests_from(shaped, ["red"], [], 1, 0, {}), settings)
        assert images.shape == (1, 3, height, width) and float((images - ours).abs().max()) < 1e-5
    for given, said in (
        ({"height": 16, "width": 16}, "not trained on pictures of 16x16 px; needed: one of 20x12, 12x20"),
        ({"height": 20}, "one of height and width was given; needed: both, HEIGHTxWIDTH one of 20x12, 12x20"),
        ({"height": 20, "width": 12.5}, "width=12.5 cannot be used; needed: a whole number"),
    ):
        with pytest.raises(Exception, match=said):
            pipe(**given)


def test_what_is_written_beside_the_weights(tmp_path: Path, autoencoder: Path) -> None:
    run = run_of("dit", tmp_path, autoencoder, tmp_path)
    with EventLog(run / "events.jsonl") as log:
        for step in range(4, 40, 4):
            log.write("train", samples_seen=step, loss=1 / step)
    result = Result(Estimate("copies", 0.02, 0.01, 0.03, 100), MeasurementProtocol({"metric": "copies"}))
    store(run, [result], 0, {}, {"neighbours": {"median_distance": 1.5, "median_distance_held_out": 1.6}})
    folder = export_pipeline(run, tmp_path / "out")
    card = (folder / "README.md").read_text()
    numbers = (result.protocol.id, "0.01 to 0.03", "2.00% of 100 samples", "1.5, of held-out pictures 1.6")
    words = ("to fill in", "runs Python code", "learning_rate", "curves.png", "class_labels='cat'", "trust_remote_code=True")
    for said in (*numbers, *words):
        assert said in card, said
    assert "a/'b'" in card and "<i>" not in card, "what a class is called writes no Markdown"
    assert (folder / "curves.png").is_file() and "Apache License" in (folder / "LICENSE").read_text()
    source = (folder / "network" / "source" / "denoisers" / "dit.py").read_text()
    assert source.startswith("# Generated from open-ldm") and "from open_ldm." not in source
    assert not (folder / "network" / "source" / "training").exists()
    assert (
        load_file(folder / "network" / "diffusion_pytorch_model.safetensors").keys()
        == load_run(run, "cpu").model.state_dict().keys()
    )
    with pytest.raises(ConfigError, match="exists already"):
        export_pipeline(run, folder)


def test_no_path_of_this_machine_is_written(tmp_path: Path, autoencoder: Path) -> None:
    text = clip_folder(tmp_path / "clip", projected=False)
    run = run_of("pixart", tmp_path, autoencoder, text)
    recipe = yaml.safe_load((run / "config.yaml").read_text())
    assert str(text) in str(recipe) and str(autoencoder) in str(recipe)
    folder = export_pipeline(run, tmp_path / "out")
    for file in folder.rglob("*"):
        if file.is_file():
            assert str(tmp_path.parent).encode() not in file.read_bytes(), file
    assert "path: not exported" in (folder / "README.md").read_text()
    content = {"source": {"path": "a/b", "of": [{"path": "c"}], "files": ["/d", "e.png"]}, "path": None, "_name_or_path": "~/f"}
    kept = {"source": {"path": "-", "of": [{"path": "-"}], "files": ["-", "e.png"]}, "path": None, "_name_or_path": "-"}
    assert without_places(content, "-") == kept


def test_an_exported_model_refuses_what_ldm_sample_refuses(tmp_path: Path, autoencoder: Path) -> None:
    folder = export_pipeline(run_of("mmdit", tmp_path, autoencoder, tmp_path), tmp_path / "text") / "network"
    classes = export_pipeline(run_of("unet", tmp_path, autoencoder, tmp_path), tmp_path / "classes") / "network"

    def asked(network: Path, prompts: tuple[str, ...] = (), labels: tuple[str, ...] = (), **given: Any) -> torch.Tensor:
        loaded = OpenLdmNetwork(network).sampler
        return loaded.sample(prompts, labels, [0], {}, given.pop("changes", {}), **given)

    for network, given, said in (
        (folder, {"prompts": ("red",), "negative": " "}, "negative_prompt is empty"),
        (folder, {"prompts": ("red",), "negative": "zebra"}, "zebra"),
        (folder, {"prompts": ("red",), "negative": "blue", "changes": {"semantic_scale": 1.0}}, "no effect without guidance"),
        (folder, {"labels": ("cat",)}, "class_labels was given, but this model"),
        (classes, {"prompts": ("red",)}, "prompt was given, but this model .*class_labels='cat'"),
        (classes, {"labels": ("cat",), "negative": "blue"}, "negative_prompt was given, but this model"),
    ):
        with pytest.raises(Exception, match=said):
            asked(network, **given)
    assert OpenLdmNetwork(folder, torch.float16).dtype_name == "fp16"
    with pytest.raises(ValueError, match=r"torch.float64 is not known"):
        OpenLdmNetwork(folder, torch.float64)


def test_a_pipeline_refuses_arguments_that_are_none(tmp_path: Path, autoencoder: Path) -> None:
    def pipeline(name: str) -> Any:
        folder = export_pipeline(run_of(name, tmp_path, autoencoder, tmp_path), tmp_path / f"{name}-exported")
        scheduler = OpenLdmScheduler.from_pretrained(str(folder / "scheduler"))
        pipe = OpenLdmPipeline(OpenLdmNetwork(folder / "network"), scheduler)
        return partial(pipe, num_inference_steps=1, output_type="pt")

    captions, classes = pipeline("mmdit"), pipeline("unet")
    for pipe, given, said in (
        (captions, {"output_type": "latent"}, r"output_type='latent' is unknown; needed: one of pil, np, pt"),
        (captions, {"output_type": None}, r"output_type=None is unknown"),
        *((captions, {"seed": seed}, rf"seed={re.escape(repr(seed))} cannot be used") for seed in (-1, True, 1.5, "3")),
        (captions, {"seed": [0, -1]}, r"seed=-1 cannot be used; needed: a whole number, 0 or more"),
        (captions, {"seed": []}, r"seed=\[\] is empty"),
        *((captions, {"num_images": count}, rf"num_images={count} cannot be used; .* 1 or more") for count in (0, -2, True)),
        (captions, {"seed": [0, 1, 2], "num_images": 2}, r"num_images=2 beside 3 seeds; .* fix: leave num_images out"),
        (captions, {"prompt": []}, r"prompt=\[\] is empty; needed: one or more; fix: leave it out"),
        (captions, {"prompt": ["red", 5]}, r"prompt=5 cannot be used; needed: text"),
        (captions, {"solver": "foo"}, r"^solver='foo' is unknown; needed: one of ddpm"),
        (captions, {"solver": 5}, r"solver=5 cannot be used"),
        (captions, {"controls": ["size"]}, r"controls=\['size'\] cannot be used"),
        (captions, {"num_inference_steps": 0}, r"^num_inference_steps=0; needed: greater"),
        (captions, {"guidance_scale": -1}, r"^guidance_scale=-1; needed: greater"),
        (captions, {"control_scale": True}, r"^control_scale=True cannot be used; needed: a number"),
        (classes, {"class_labels": True}, r"class_labels=True cannot be used"),
        (classes, {"class_labels": []}, r"class_labels=\[\] is empty"),
        (classes, {"class_labels": 7}, r"no class at index 7"),
    ):
        with pytest.raises(Exception, match=said) as caught:
            pipe(**given)
        assert "--" not in str(caught.value) and "\n" not in str(caught.value)
    one, two = captions(prompt="red", seed=3, num_images=2).images
    alone = (
        captions(prompt=np.array(["red"]), seed=np.int64(3)).images[0],
        captions(prompt=("red",), seed=torch.tensor([4])).images[0],
    )
    for found, wanted in zip(alone, (one, two), strict=True):  # some processors round a batch of one otherwise
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert torch.equal(captions(prompt="red", seed=[3, 4], num_images=2).images[1], two)
    assert classes(class_labels=np.int64(1), num_images=np.int32(1)).images.shape == (1, 3, SIDE, SIDE)


class Hub(BaseHTTPRequestHandler):
    """A model is made and a folder is committed to it, as the Hub answers; what came is kept."""

    came: dict[str, Any] = {}

    def do_POST(self) -> None:
        content = self._body()
        if self.path == "/api/validate-yaml":
            answer: dict[str, Any] = {"errors": [], "warnings": []}
        elif self.path.endswith("/preupload/main"):
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(content)["files"]
            ]
            answer = {"files": files}
        elif self.path == "/api/repos/create":
            type(self).came["made"] = json.loads(content)
            answer = {"url": f"http://{self.headers['Host']}/me/ships", "name": "me/ships"}
        else:
            lines = [json.loads(line) for line in content.splitlines()]
            type(self).came["files"] = sorted(one["value"]["path"] for one in lines if one["key"] == "file")
            answer = {
                "commitOid": "0" * 40,
                "commitUrl": f"http://{self.headers['Host']}/me/ships/commit/0",
                "pullRequestUrl": None,
            }
        self._answer(answer)

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def do_GET(self) -> None:
        self._answer({"id": "me/ships", "sha": "0" * 40, "siblings": [], "private": True})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_folder_is_pushed_and_a_hub_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    (tmp_path / "network").mkdir()
    for name in ("README.md", "network/config.json"):
        (tmp_path / name).write_text("{}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    real, address = huggingface_hub.HfApi, f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: real(endpoint=address, token="hf_made_up"))
    try:
        assert push(tmp_path, "me/ships").endswith("/me/ships")
    finally:
        server.shutdown()
        server.server_close()
    assert Hub.came["made"] == {"name": "ships", "organization": "me", "visibility": "private"}
    assert Hub.came["files"] == ["README.md", "network/config.json"]
    with pytest.raises(HubError, match="me/ships could not be pushed"):
        push(tmp_path, "me/ships")
    for wrong in (None, "ships", "me/ships/x", "../x"):
        with pytest.raises(ConfigError, match="OWNER/NAME"):
            check_hub_name(wrong)
