"""What a user types and what comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from open_ldm.autoencoders import GivenStats
from open_ldm.autoencoders.latent_stats import given
from open_ldm.commands import model_table
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.commands.evaluate.pictures import open_evaluated
from open_ldm.commands.model_table import count_row
from open_ldm.core.errors import OpenLdmError
from open_ldm.core.pictures import to_images
from open_ldm.data.transforms import TransformConfig
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import load_recipe
from open_ldm.sources.loader import read_batches
from open_ldm.sources.shapes import ShapesConfig
from tests.cli.conftest import ldm
from tests.runs.autoencoder.tiny import tiny_recipe as tiny_autoencoder_recipe
from tests.runs.tiny import tiny_recipe


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from open_ldm.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'pydantic', 'diffusers', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout and "sample" in done.stdout


def test_a_run_folder_holds_what_it_promises(text_run: Path) -> None:
    for name in ("config.yaml", "events.jsonl", "report.html", "exit.json", "data.json"):
        assert (text_run / name).stat().st_size > 0
    assert sorted(path.name for path in (text_run / "samples").iterdir()) == ["000000000016.png", "000000000032.png"]
    assert sorted(path.name for path in (text_run / "checkpoints").iterdir()) == [
        "samples-000000000016",
        "samples-000000000032",
    ]
    assert json.loads((text_run / "exit.json").read_text())["code"] == 0


def test_train_goes_on_by_its_own_config_and_ends_at_once_when_done(capsys: pytest.CaptureFixture[str], text_run: Path) -> None:
    code, out, _ = ldm(capsys, "train", text_run, "--json")
    assert code == 0
    assert json.loads(out)["samples_seen"] == 32 and json.loads(out)["run"] == str(text_run)


def test_sample_writes_pictures_a_grid_and_how_they_were_made(
    capsys: pytest.CaptureFixture[str], text_run: Path, tmp_path: Path
) -> None:
    prompts = ["--prompt", "a large red circle on the left", "--prompt", "a small blue square on the right"]
    arguments = ["--count", 2, "--seed", 7, "--steps", 2, "--solver", "ddim", "--semantic-scale", 3, "--control-scale", 2]
    controls = ["size=64x48", "crop=0,3", "flip=1", "aspect=4:3"]
    code, out, _ = ldm(capsys, "sample", text_run, *prompts, *arguments, *controls, "--out", tmp_path, "--json")
    assert code == 0 and len(json.loads(out)["pictures"]) == 4
    assert Image.open(tmp_path / "00003.png").size == (16, 16)
    assert Image.open(tmp_path / "grid.png").width > 64
    told = json.loads((tmp_path / "samples.json").read_text())
    assert [picture["seed"] for picture in told["pictures"]] == [7, 8, 7, 8]
    assert told["pictures"][0]["controls"] == {"size": "64x48", "crop": "0,3", "flip": "1", "aspect": "4:3"}
    assert told["sampling"]["solver"] == "ddim" and told["sampling"]["guidance"]["semantic_scale"] == 3


def test_sample_draws_a_file_of_prompts_and_leads_away_from_a_negative_one(
    capsys: pytest.CaptureFixture[str], text_run: Path, tmp_path: Path
) -> None:
    listed = ["a large red circle on the left", "a small blue square on the right", "large red circle " * 4]
    (tmp_path / "prompts.txt").write_text("# three\n" + "\n".join(listed))
    arguments = ["--prompts", tmp_path / "prompts.txt", "--steps", 2, "--seed", 3]
    written = []
    for name, more in (("plain", []), ("away", ["--negative-prompt", "a green cross"])):
        code, _, err = ldm(capsys, "sample", text_run, *arguments, *more, "--out", tmp_path / name)
        assert code == 0
        assert "too long for the text encoder" in err and err.count("warning") == 1
        written.append(json.loads((tmp_path / name / "samples.json").read_text()))
    assert [picture["shows"] for picture in written[0]["pictures"]] == [prompt.strip() for prompt in listed]
    assert [picture["seed"] for picture in written[0]["pictures"]] == [3, 3, 3]
    assert written[0]["negative_prompt"] is None and written[1]["negative_prompt"] == "a green cross"
    assert (tmp_path / "plain" / "00000.png").read_bytes() != (tmp_path / "away" / "00000.png").read_bytes()


def test_a_sweep_is_a_labelled_grid(capsys: pytest.CaptureFixture[str], text_run: Path, tmp_path: Path) -> None:
    sweep = ["--sweep", "a {small,large} {red,blue,green} circle on the left", "--count", 2, "--steps", 1, "flip=1"]
    code, _, _ = ldm(capsys, "sample", text_run, *sweep, "--out", tmp_path)
    assert code == 0
    told = json.loads((tmp_path / "samples.json").read_text())["pictures"]
    assert [picture["seed"] for picture in told] == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    assert told[3]["shows"] == "a small red circle on the left" and told[11]["shows"] == "a large green circle on the left"
    assert all(picture["controls"] == {"flip": "1"} for picture in told)
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.height > 4 * 128 and grid.width > 3 * 128


def test_tokens_are_inspected_run_by_run(capsys: pytest.CaptureFixture[str], text_run: Path) -> None:
    code, out, _ = ldm(capsys, "inspect", "tokens", text_run, text_run, "--pictures", 4)
    assert code == 0
    assert out.count("noisy_replicate") == 2 and "gradient on padding" in out
    plot = (text_run / "inspect" / "tokens.svg").read_text()
    assert plot.startswith("<svg") and "share of attention, %" in plot and plot.count("padding: noisy_replicate") == 2
    told = json.loads((text_run / "inspect" / "tokens.json").read_text())
    assert told["pictures"] == 4 and 0 < told["attention_padding"] < 1
    code, out, _ = ldm(capsys, "inspect", "tokens", text_run, "--pictures", 4, "--json")
    again = json.loads(out)["runs"][0]
    assert code == 0 and again["gradient"] == told["gradient"] and again["padding"] == "noisy_replicate"
    code, out, _ = ldm(capsys, "inspect", "tokens", text_run, "--pictures", 1, "--format", "pdf")
    assert code == 0 and out.rstrip().endswith("tokens.pdf")
    assert (text_run / "inspect" / "tokens.pdf").read_bytes().startswith(b"%PDF")


def test_sample_never_overwrites_and_knows_all_classes(capsys: pytest.CaptureFixture[str], class_run: Path) -> None:
    for number in ("0001", "0002"):
        code, out, _ = ldm(capsys, "sample", class_run, "--class", "red circle", "--class", 3, "--count", 1, "--json")
        assert code == 0 and json.loads(out)["folder"].endswith(f"drawn/{number}")
        assert f"drawn/{number}/grid.png" in (class_run / "report.html").read_text()


def test_the_class_that_is_drawn_is_named(capsys: pytest.CaptureFixture[str], class_run: Path, tmp_path: Path) -> None:
    names = load_run(class_run).known.facts.class_names
    asked = ("--class", 3, "--class-index", 1, "--count", 1, "--steps", 2)
    code, out, _ = ldm(capsys, "sample", class_run, *asked, "--out", tmp_path)
    told = json.loads((tmp_path / "samples.json").read_text())
    assert code == 0 and [one["shows"] for one in told["pictures"]] == [names[3], names[1]]
    assert f"classes: {names[3]}, {names[1]}" in out
    code, _, err = ldm(capsys, "sample", class_run, "--class-index", 999)
    assert code == 2 and "no class at index 999" in err


def test_older_pictures_are_never_taken_for_new_ones(
    capsys: pytest.CaptureFixture[str], class_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sampled(count: int) -> tuple[int, str]:
        code, _, err = ldm(capsys, "sample", class_run, "--class-index", 0, "--count", count, "--steps", 2, "--out", tmp_path)
        return code, err

    assert sampled(6)[0] == 0 and sampled(6)[0] == 0, "the same pictures again replace all of them"
    with monkeypatch.context() as patched:
        patched.setattr("open_ldm.commands.sample.sample_pixels", lambda *_: pytest.fail("sampled before it was refused"))
        code, err = sampled(3)
    assert code == 2 and "holds 3 pictures of an earlier sampling that would stay, such as 00003.png" in err
    listed = json.loads((tmp_path / "samples.json").read_text())
    (tmp_path / "samples.json").write_text(json.dumps({**listed, "pictures": listed["pictures"][:3]}))
    evaluated = open_evaluated(tmp_path, EvaluationConfig(metrics=("fid",), n=100), None, "train", "cpu")
    assert len(evaluated) == 3 and "3 pictures in" in capsys.readouterr().err
    (tmp_path / "samples.json").write_text(json.dumps(listed))
    assert len(open_evaluated(tmp_path, EvaluationConfig(metrics=("fid",), n=100), None, "train", "cpu")) == 6
    assert not capsys.readouterr().err


def own_files(folder: Path, *names: str) -> dict[str, bytes]:
    """Write files of somebody's own; return every file of the folder."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(f"my own {name}".encode())
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("names", [("holiday.png",), ("00000.png", "grid.png", "samples.json", "holiday.png"), ("notes.txt",)])
def test_nobody_s_own_files_are_overwritten_by_samples(
    capsys: pytest.CaptureFixture[str],
    class_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
) -> None:
    mine = own_files(tmp_path / "own", *names)
    monkeypatch.setattr("open_ldm.commands.sample.sample_pixels", lambda *_: pytest.fail("sampled before it was refused"))
    monkeypatch.setattr("open_ldm.commands.sample_array.sample_pixels", lambda *_: pytest.fail("sampled an array"))
    for more in (["--class-index", 0], ["--npz"]):
        given = (*more, "--count", 1, "--steps", 2, "--out", tmp_path / "own")
        code, _, err = ldm(capsys, "sample", class_run, *given)
        assert code == 2 and f"own holds files that no earlier sampling wrote, such as {min(names)}; needed: a new" in err
    assert own_files(tmp_path / "own") == mine


def test_an_earlier_sampling_is_replaced_and_what_it_does_not_name_is_not(
    capsys: pytest.CaptureFixture[str], class_run: Path, tmp_path: Path
) -> None:
    def sampled(count: int) -> tuple[int, str]:
        given = ("--class-index", 0, "--count", count, "--steps", 2, "--out", tmp_path / "out")
        code, _, err = ldm(capsys, "sample", class_run, *given)
        return code, err

    own_files(tmp_path / "out", ".hidden")
    assert sampled(1)[0] == 0
    own_files(tmp_path / "out", "holiday.png")
    assert sampled(1)[0] == 0 and (tmp_path / "out" / "holiday.png").read_bytes() == b"my own holiday.png"
    mine = own_files(tmp_path / "out", "00001.png")
    code, err = sampled(2)
    assert code == 2 and "holds files that no earlier sampling wrote, such as 00001.png" in err
    assert own_files(tmp_path / "out") == mine


def test_recipes_and_models(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has the smallest size of each denoiser here; tests/denoisers/test_parameter_counts.py counts the others."""
    for sizes in ("SIZES", "UNET_SIZES"):
        monkeypatch.setattr(model_table, sizes, ["S"])
    code, out, _ = ldm(capsys, "recipes")
    assert code == 0 and "demo" in out and "cifar10-dit" in out
    code, out, _ = ldm(capsys, "recipes", "show", "demo")
    assert code == 0 and out.startswith("# ") and "name: demo" in out
    code, out, _ = ldm(capsys, "models", "--json")
    rows = {row["denoiser"]: row for row in json.loads(out)["models"]}
    found = {kind: round(row["gmacs"], 2) for kind, row in rows.items()}
    assert found == {"dit": 6.06, "mmdit": 8.08, "pixart": 7.87, "mdtv2": 6.74, "unet": 8.75}
    memory = rows["unet"]["memory"]
    held = memory["weights"] + memory["gradients"] + memory["optimizer"] + memory["average"]
    assert held == 20 * rows["unet"]["parameters"]
    assert memory["picture"] == 0 < count_row("dit", "XS", pictures=True).memory.picture
    largest = count_row("unet", "XL")
    assert (largest.parameters, round(largest.gmacs, 2)) == (708_305_924, 44.74)
    assert round(count_row("mmdit", "L").gmacs, 1) == 105.8


def test_models_are_shown_as_they_are_counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    counted = count_row("dit", "XS")

    def count(kind: str, size: str, *, pictures: bool) -> model_table.ModelRow:
        if size == "S":
            raise OpenLdmError("the second is not counted")
        return counted

    monkeypatch.setattr(model_table, "count_row", count)
    code, out, err = ldm(capsys, "models")
    assert code != 0 and "the second is not counted" in err
    assert [line.split()[0] for line in out.splitlines()] == ["denoiser", "dit"]


def test_dry_run_prints_a_recipe_that_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = ldm(capsys, "train", "demo", "--dry-run")
    assert code == 0
    (tmp_path / "again.yaml").write_text(out)
    code, again, _ = ldm(capsys, "train", tmp_path / "again.yaml", "--dry-run")
    assert code == 0 and again == out


def test_data_stats_are_those_a_recipe_can_state(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    code, out, _ = ldm(capsys, "data", "stats", recipe, "latent_stats.pictures=40", "--json")
    told = json.loads(out)
    assert code == 0 and told["pictures"] == 40 and len(told["mean"]) == len(told["std"]) == 3
    batch = next(
        read_batches(
            ShapesConfig(length=50, two_shapes=0).open(),
            TransformConfig(size_px=16, flip=0.5),
            seed=0,
            position_ranges=[range(40)],
            workers=0,
        )
    )
    images = to_images(batch.pixels).double()
    assert told["mean"] == pytest.approx(images.mean(dim=(0, 2, 3)).tolist(), rel=1e-6)
    assert told["std"] == pytest.approx(images.std(dim=(0, 2, 3), correction=0).tolist(), rel=1e-6)

    code, out, _ = ldm(capsys, "data", "stats", recipe, "latent_stats.pictures=40")
    line = out.strip().splitlines()[-1]
    stated = yaml.safe_load(line)["latent_stats"]
    assert code == 0 and stated == told["latent_stats"]
    resolved = load_recipe(str(recipe), [f"latent_stats={json.dumps(stated)}"])
    assert isinstance(resolved.latent_stats, GivenStats)
    assert given(resolved.latent_stats, 3).std == pytest.approx(told["std"], rel=1e-5)


def test_data_survey_of_either_kind_of_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for recipe in (tiny_recipe(tmp_path), tiny_autoencoder_recipe(tmp_path)):
        code, out, _ = ldm(capsys, "data", "survey", recipe)
        assert code == 0 and "pictures" in out and "short_side_px" in out and "caption: " in out
    code, out, _ = ldm(capsys, "data", "survey", tiny_recipe(tmp_path), "--json")
    assert code == 0 and json.loads(out)["pictures"] == 50


def test_autoencoder_train(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe, run = tiny_autoencoder_recipe(tmp_path), tmp_path / "run"
    command = ["autoencoder", "train", recipe, "training.samples=8"]
    code, out, _ = ldm(capsys, *command, "--dry-run", "--json")
    assert code == 0 and json.loads(out)["values_per_latent"] == 3
    assert not run.exists()
    code, out, _ = ldm(capsys, *command, "--out", run, "--json")
    told = json.loads(out)
    assert code == 0 and told["samples_seen"] == 8 and told["worst_psnr_db"] < told["mean_psnr_db"]
    assert told["autoencoder"] == {"kind": "kl", "path": str(run / "autoencoder"), "channels": 4, "factor": 2}
    code, out, _ = ldm(capsys, "autoencoder", "train", run)
    assert code == 0
    setting = yaml.safe_load(out.strip().splitlines()[-1].removeprefix("use it in a recipe: "))
    assert setting == {"autoencoder": told["autoencoder"]}


MISTAKES: list[tuple[list[str], int, str]] = [
    (["trane"], 2, "No such command 'trane'. Did you mean 'train', 'transfer'?; fix: see ldm --help"),
    (["train"], 2, "Missing argument 'recipe'; fix: see ldm train --help"),
    (["train", "demoo"], 2, "did you mean 'demo'"),
    (["train", "demo", "--what"], 2, "No such option"),
    (["train", "demo", "training.sampels=1"], 2, "did you mean 'samples'"),
    (["train", "demo", "data.source={kind: folder, path: /does/not/exist}"], 2, "/does/not/exist"),
    (["train", "demo", "training.device=cuda"], 2, "not available on this machine"),
    (["train", "demo", "training.batch_size=32", "training.micro_batch_size=5", "--out", "RUN"], 2, "1, 2, 4, 8, 16, 32"),
    (["train", "photos-autoencoder"], 2, "ldm autoencoder train"),
    (["autoencoder", "train", "demo"], 2, "fix: use ldm train"),
    (["autoencoder", "train", "photos-autoencodr"], 2, "did you mean 'photos-autoencoder'"),
    (["autoencoder", "train", "photos-autoencoder", "network.in_channels=2"], 2, "data.source.channels"),
    (["autoencoder", "trane"], 2, "No such command"),
    (["data", "stats"], 2, "fix: see ldm data stats --help"),
    (["data", "stats", "photos-autoencoder"], 2, "trains an autoencoder"),
    (["data", "survey", "demo", "training.sampels=1"], 2, "did you mean 'samples'"),
    (["recipes", "show", "nothing"], 2, "no packaged recipe"),
    (["recipes", "list"], 2, "ldm recipes show NAME"),
    (["sample", "/does/not/exist"], 2, "no run folder"),
    (["sample", "TEXT", "--prompt", "a crimson circle"], 2, "never saw crimson"),
    (["sample", "TEXT", "--class", "ship"], 2, "--prompt TEXT"),
    (["inspect", "tokens", "CLASS"], 2, "not trained with captions"),
    (["sample", "TEXT", "--prompts", "no/such/file"], 2, "No such file"),
    (["sample", "TEXT", "--sweep", "a red circle"], 2, "choices in braces"),
    (["sample", "TEXT", "--sweep", "a {red,crimson} circle"], 2, "never saw crimson"),
    (
        ["sample", "TEXT", "--sweep", "a {red,blue} circle", "--prompt", "a circle"],
        2,
        "was given together with prompts or classes",
    ),
    (["sample", "TEXT", "--negative-prompt", "a crimson circle"], 2, "never saw crimson"),
    (["sample", "TEXT", "--negative-prompt", " "], 2, "--negative-prompt is empty"),
    (["sample", "TEXT", "--negative-prompt", "a circle", "--semantic-scale", "1"], 2, "no effect without guidance"),
    (["sample", "CLASS", "--negative-prompt", "a circle"], 2, "--negative-prompt was given, but this model was not trained"),
    (["sample", "CLASS", "--prompts", "no/such/file"], 2, "--class"),
    (["sample", "CLASS", "--sweep", "a {red,blue} circle"], 2, "--class"),
    (["sample", "CLASS", "--prompt", "a circle"], 2, "--class"),
    (["sample", "CLASS", "--class", "red circel"], 2, "did you mean 'red circle'"),
    (["sample", "CLASS", "flip=1"], 2, "without controls"),
    (
        ["sample", "CLASS", "--control-scale", "2"],
        2,
        "--control-scale 2 has no effect: this model has no controls",
    ),
    (["sample", "TEXT", "--semantic-scale", "inf"], 2, "semantic_scale=inf; needed: a finite number"),
    (["sample", "TEXT", "--control-scale", "nan"], 2, "--control-scale'; needed: greater than or equal to 0"),
    (["sample", "TEXT", "--semantic-scale", "1e38"], 2, "needed: less than or equal to 10000"),
    (["train", "demo", "training.optimizer.learning_rate=.inf"], 2, "inf is not a finite number"),
    (["train", "demo", "training.optimizer.learning_rate=1e400"], 2, "inf; needed: a finite number"),
    (["train", "demo", "training.optimizer.weight_decay=.nan"], 2, "nan is not a finite number"),
    (["train", "demo", "training.samples=!!int text"], 2, "the value of override"),
    (["train", "demo", "data.source.length=" + "9" * 5000], 2, "cannot be used"),
    (["train", "demo", "--out", ""], 2, "--out is empty; needed: a value; fix: leave it out, or check the variable"),
    (["train", "demo", "--out="], 2, "--out is empty"),
    (["train", "", "--out", "RUN"], 2, "an argument is empty"),
    (["encode", "demo", "--out", " "], 2, "--out is empty"),
    (["sample", "TEXT", "--out", ""], 2, "--out is empty"),
    (["export", "/"], 2, "/ is no run folder"),
    (["sample", "TEXT", "--sweep", "a " + "{red,blue}" * 20], 2, "makes 1,048,576 pictures; needed: at most 1,000; fix: --yes"),
    (["sample", "TEXT", "--class", "\x1b[2J"], 2, "not trained with classes"),
    (["sample", "CLASS", "--class", "\x1b[2J"], 2, r"the model knows no class '\x1b[2J'"),
    (["sample", "TEXT", "size=big"], 2, "HEIGHTxWIDTH"),
    (["sample", "TEXT", "size=-4x4"], 2, "HEIGHTxWIDTH"),
    (["sample", "TEXT", "crop=1"], 2, "TOP,LEFT"),
    (["sample", "TEXT", "flip=maybe"], 2, "0 or 1"),
    (["sample", "TEXT", "colour=red"], 2, "one of size, crop, flip, aspect"),
    (["sample", "TEXT", "--solver", "magic"], 2, "--solver 'magic' is unknown; needed: one of ddpm, ddim, euler"),
    (["sample", "TEXT", "--spacing", "trailling"], 2, "--spacing 'trailling' is unknown; needed: one of trailing, leading"),
    (["sample", "TEXT", "--steps", "0"], 2, "steps"),
    (["sample", "TEXT", "--npz", "--labels", "foo"], 2, "'--labels': 'foo'; needed: one of 'equal', 'random'; fix: see ldm"),
    (["sample", "TEXT", "--count", "many"], 2, "'--count'; needed: a valid integer; fix: see ldm sample --help"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), MISTAKES, ids=[" ".join(row[0])[:60] for row in MISTAKES])
def test_mistakes_get_one_line(
    capsys: pytest.CaptureFixture[str],
    text_run: Path,
    class_run: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    places = {"TEXT": str(text_run), "CLASS": str(class_run), "RUN": str(tmp_path / "run")}
    given = [places.get(argument, argument) for argument in arguments]
    found, out, err = ldm(capsys, *given)
    assert found == code, err
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
    assert said in err
    assert not out
    found, out, _ = ldm(capsys, *given, "--json")
    assert found == code and json.loads(out)["code"] == code


def test_an_option_without_its_value_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = ldm(capsys, "train", "demo", "--out")
    assert (code, err) == (2, "error: Option '--out' requires an argument; fix: see ldm train --help\n")


def test_another_recipe_in_the_same_folder_is_refused(
    capsys: pytest.CaptureFixture[str], text_run: Path, tmp_path: Path
) -> None:
    code, _, err = ldm(capsys, "train", tiny_recipe(tmp_path), "training.batch_size=8", "--out", text_run)
    assert code == 2 and "training.batch_size=4 (now 8)" in err and "another --out" in err


def test_a_damaged_checkpoint_is_passed_over_and_none_left_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from tests.cli.conftest import trained

    run = trained(tmp_path)
    _, newest = sorted((run / "checkpoints").iterdir())
    weights = newest / "ema.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    code, _, _ = ldm(capsys, "sample", run, "--count", 1, "--steps", 1, "--out", tmp_path / "drawn")
    assert code == 0
    assert json.loads((tmp_path / "drawn" / "samples.json").read_text())["samples_seen"] == 16

    code, _, err = ldm(capsys, "train", run)
    assert code == 0 and "checkpoint passed over: samples-000000000032/ema.safetensors is damaged" in err

    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "MANIFEST.json").write_text("{")
    code, _, err = ldm(capsys, "train", run)
    assert code == 65 and "no checkpoint" in err
    assert json.loads((run / "exit.json").read_text())["code"] == 65


def test_too_many_bad_pictures_end_the_run_with_65(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(30):
        Image.new("RGB", (20, 20), (index * 8, 0, 0)).save(pictures / f"{index:02d}.png")
    (pictures / "03.png").write_bytes(b"not a picture")
    recipe = tiny_recipe(tmp_path)
    given = [f"data.source={{kind: folder, path: {pictures}}}", "conditioning.semantic={kind: none}"]
    code, _, err = ldm(capsys, "train", recipe, *given, "--out", tmp_path / "run")
    assert code == 65 and "1 of 30" in err and "03.png" in err
    health = json.loads((tmp_path / "run" / "health.json").read_text())
    assert health["bad"]


def test_a_run_in_use_is_not_touched(capsys: pytest.CaptureFixture[str], text_run: Path) -> None:
    from open_ldm.run_folder.folder import RunFolder

    with RunFolder(text_run):
        code, _, err = ldm(capsys, "train", text_run)
    assert code == 73 and "in use by process" in err
    assert json.loads((text_run / "exit.json").read_text())["code"] == 0


def own_pictures(folder: Path, classes: tuple[str, ...]) -> Path:
    """Class folders with six pictures each."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(6):
            Image.new("RGB", (24 + index, 20), (40 * number, index * 30, 90)).save(folder / name / f"{index}.png")
    return folder


SHORT = ["training.samples=16", "training.checkpoint_every_samples=8", "preview.count=2", "data.workers=0"]


def test_the_readme_command_for_own_pictures_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    line = next(line for line in readme.splitlines() if line.startswith("ldm train photos-dit"))
    pictures = own_pictures(tmp_path / "pictures", ("cat", "dog"))
    words = [word.replace("/path/to/my/pictures", str(pictures)) for word in line.split()[1:]]
    words[words.index("runs/mine")] = str(tmp_path / "run")
    small = ["denoiser.depth=1", "denoiser.width=32", "denoiser.heads=2", "training.batch_size=8", "latent_stats.pictures=8"]
    code, _, err = ldm(capsys, *words, *SHORT, *small)
    assert code == 0, err


def test_another_kind_starts_from_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ldm(capsys, "train", "demo", "conditioning.semantic.kind=class", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["recipe"]["conditioning"]["semantic"] == {"kind": "class", "route": "context", "width": None}


def test_a_class_that_appears_later_does_not_shift_the_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pictures = own_pictures(tmp_path / "pictures", ("cat", "dog"))
    given = [f"data.source={{kind: folder, path: {pictures}}}", "conditioning.semantic={kind: class}", *SHORT]
    arguments = ["train", tiny_recipe(tmp_path), *given, "--out", tmp_path / "run"]
    assert ldm(capsys, *arguments)[0] == 0
    own_pictures(pictures, ("ant",))
    code, _, err = ldm(capsys, *arguments)
    assert code == 65 and "ant" in err and "another --out" in err
    assert json.loads((tmp_path / "run" / "exit.json").read_text())["code"] == 65


def test_mended_pictures_no_longer_count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pictures = own_pictures(tmp_path / "pictures", ("cat",))
    (pictures / "cat" / "0.png").write_bytes(b"broken")
    given = [f"data.source={{kind: folder, path: {pictures}}}", "conditioning.semantic={kind: none}", *SHORT]
    arguments = ["train", tiny_recipe(tmp_path), *given, "--out", tmp_path / "run"]
    assert ldm(capsys, *arguments)[0] == 65
    assert (tmp_path / "run" / "health.json").is_file()
    (pictures / "cat" / "0.png").unlink()
    assert ldm(capsys, *arguments)[0] == 0
    assert not (tmp_path / "run" / "health.json").exists()


def test_a_run_goes_on_in_smaller_portions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    assert ldm(capsys, "train", recipe, "training.samples=16", "--out", tmp_path / "run")[0] == 0
    again = ["training.samples=32", "training.micro_batch_size=2"]
    code, _, err = ldm(capsys, "train", recipe, *again, "--out", tmp_path / "run")
    assert code == 0 and "bitwise: no (micro_batch_size 4→2)" in err


def test_sample_says_when_it_had_to_use_older_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tests.cli.conftest import trained

    run = trained(tmp_path)
    (max((run / "checkpoints").iterdir()) / "ema.safetensors").write_bytes(b"")
    code, out, err = ldm(capsys, "sample", run, "--count", 1, "--steps", 1, "--json")
    assert code == 0 and "passed over: samples-000000000032" in err
    assert json.loads((Path(json.loads(out)["folder"]) / "samples.json").read_text())["passed_over"]


def test_a_report_that_cannot_be_written_does_not_end_the_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "report.html").mkdir(parents=True)
    code, _, err = ldm(capsys, "train", tiny_recipe(tmp_path), "training.samples=16", "--out", run)
    assert code == 0 and "warning: cannot write" in err


def test_bare_ldm_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ldm(capsys)
    assert code == 0 and "Usage: ldm" in out and not err


def test_transfer_takes_a_run_as_recipe_and_tells_what_cannot_be(
    capsys: pytest.CaptureFixture[str], text_run: Path, tmp_path: Path
) -> None:
    before = (text_run / "exit.json").read_text()
    for arguments, said in (
        (
            [text_run, text_run],
            "cannot start from itself; needed: a folder of its own for the new run; fix: choose another --out",
        ),
        ([text_run, text_run, "init_from=null", "--out", tmp_path / "none"], "init_from=null and SOURCE"),
        ([tmp_path, text_run, "--dry-run"], f"{tmp_path} is no run folder"),
        ([text_run, text_run, "init_from.weights=ema", "--raw"], "init_from.weights=raw and init_from.weights=ema were both"),
    ):
        code, _, error = ldm(capsys, "transfer", *arguments)
        assert code == 2 and said in error and error.count("\n") == 1
    assert (text_run / "exit.json").read_text() == before
    code, out, _ = ldm(capsys, "transfer", text_run, text_run, "training.samples=4", "--out", tmp_path / "again", "--json")
    assert code == 0 and json.loads(out)["run"] == str(tmp_path / "again")


def test_stages_are_shown_before_and_told_of_after(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = yaml.safe_load(tiny_recipe(tmp_path).read_text())
    recipe["stages"] = [{"name": "a"}, {"name": "b", "data": {"transform": {"size_px": 32}}}]
    path = tmp_path / "staged.yaml"
    path.write_text(yaml.safe_dump(recipe))
    more = [path, "training.samples=4", "--out", tmp_path / "run"]
    code, out, _ = ldm(capsys, "train", *more, "--dry-run")
    assert code == 0 and "# stage a\n" in out and "starts from" in out
    assert out.splitlines()[-1].split() == ["#", "b", "4", "shapes", "32", "global", "text", "16", "resample"]
    _, out, _ = ldm(capsys, "train", *more, "--dry-run", "--json")
    second = json.loads(out)["stages"][1]
    assert second["recipe"]["denoiser"]["positions"]["kind"] == "resample" and second["transfer"]["numbers"]["new"] == 0
    for _ in range(2):  # once more, with nothing left to do
        code, _, error = ldm(capsys, "train", *more)
        assert code == 0 and f"all 2 stages done, 8 samples; report: {tmp_path}/run/report.html" in error
        assert f"next: ldm sample {tmp_path}/run, or ldm studio {tmp_path}/run" in error


def test_transfer_prints_and_keeps_a_receipt(capsys: pytest.CaptureFixture[str], text_run: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    more = ["data.transform.size_px=32", "training.samples=8", "conditioning.controls=[{kind: flip}]"]
    code, out, _ = ldm(capsys, "transfer", text_run, recipe, *more, "--dry-run")
    assert code == 0 and "control crop removed" in out and "process.resolution.from_px: None there, 16 here" in out
    code, out, _ = ldm(capsys, "transfer", text_run, recipe, *more, "--dry-run", "--json")
    told = json.loads(out)
    assert told["recipe"]["process"]["resolution"] == {"from_px": 16, "to_px": 32}
    assert {tensor["action"] for tensor in told["transfer"]["tensors"]} == {"kept", "dropped"}
    code, _, error = ldm(capsys, "transfer", text_run, recipe, *more, "denoiser.depth=3", "--out", tmp_path / "run")
    assert code == 2 and "--allow 'denoiser.blocks.*'" in error and len(error.splitlines()) == 1
    allow = ["--allow", "denoiser.blocks.*", "--raw"]
    code, out, _ = ldm(
        capsys, "transfer", text_run, recipe, *more, "denoiser.depth=3", *allow, "--out", tmp_path / "run", "--json"
    )
    assert code == 0 and json.loads(out)["samples_seen"] == 8
    receipt = json.loads((tmp_path / "run" / "transfer.json").read_text())
    assert receipt["source"]["weights"] == "raw" and receipt["numbers"]["new"] > 0
    assert "Where it started" in (tmp_path / "run" / "report.html").read_text()


def test_stages_train_by_one_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    stages = "stages=[{name: small, training: {samples: 8}}, {name: large, data: {transform: {size_px: 32}}}]"
    arguments = ["train", tiny_recipe(tmp_path), stages, "training.samples=4", "--out", tmp_path / "run"]
    code, out, _ = ldm(capsys, *arguments, "--dry-run", "--json")
    assert code == 0 and [each["recipe"]["name"] for each in json.loads(out)["stages"]] == ["tiny-small", "tiny-large"]
    code, out, _ = ldm(capsys, *arguments, "--json")
    assert code == 0 and json.loads(out)["samples_seen"] == 12
    code, out, _ = ldm(capsys, "sample", tmp_path / "run", "--count", 1, "--steps", 2, "--json")
    assert code == 0 and Image.open(json.loads(out)["pictures"][0]).size == (32, 32)


def test_inspect_draws_schedules_and_positions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    resolution = "process.resolution={from_px: 32, to_px: 64}"
    arguments = ["inspect", "schedule", "shapes-text", resolution, "--out", tmp_path]
    code, out, _ = ldm(capsys, *arguments)
    assert code == 0 and "for 32 px" in out and "for 64 px" in out
    code, out, _ = ldm(capsys, *arguments, "--json")
    rows = json.loads(out)["rows"]
    assert rows[0][2] == "inf" and rows[5][2] - rows[5][4] == pytest.approx(2 * 0.6931471805599453)
    plot = (tmp_path / "schedule-log-snr.svg").read_text()
    assert plot.startswith("<svg") and "for 32 px" in plot and "for 64 px" in plot
    code, out, _ = ldm(capsys, *arguments, "--format", "png", "--json")
    assert code == 0 and [Path(name).name for name in json.loads(out)["files"]] == [
        "schedule-alpha-bar.png",
        "schedule-log-snr.png",
    ]
    assert Image.open(tmp_path / "schedule-log-snr.png").width > 1000
    code, _, error = ldm(capsys, *arguments, "--format", "jpg")
    assert code == 2 and "jpg" in error
    code, out, _ = ldm(capsys, "inspect", "schedule", "shapes-stages", "--out", tmp_path / "stages", "--json")
    told = json.loads(out)  # the second stage follows from the first, trained or not
    assert code == 0 and told["names"] == ["of stage small", "of stage large"]
    assert told["rows"][5][2] - told["rows"][5][4] == pytest.approx(2 * 0.6931471805599453)
    code, out, _ = ldm(
        capsys, "inspect", "positions", "--from", "4x6", "--to", "8x12", "--width", 16, "--out", tmp_path, "--json"
    )
    assert code == 0 and [Path(name).name for name in json.loads(out)["files"]] == [
        "positions.png",
        "positions-coordinates.svg",
    ]
    assert Image.open(tmp_path / "positions.png").width > 200
    code, out, _ = ldm(capsys, "inspect", "positions", "--width", 16, "--out", tmp_path, "--format", "pdf")
    assert code == 0 and out.split() == [str(tmp_path / "positions.png"), str(tmp_path / "positions-coordinates.pdf")]
    ldm(capsys, "inspect", "positions", "--from", "4", "--to", "8", "--out", tmp_path / "few")
    assert (
        Image.open(tmp_path / "few" / "positions.png").width > 4 * 192
    )  # few columns are drawn wide enough for their captions
    code, _, error = ldm(capsys, "inspect", "positions", "--width", "30")
    assert code == 2 and "multiple of 4" in error
    code, out, _ = ldm(capsys, "inspect", "schedule", "imagenet512-mmdit-xl2-improved", "--out", tmp_path / "large")
    assert code == 0 and "runs/imagenet256-mmdit-xl2-improved, which is not here" in out
    code, _, error = ldm(capsys, "inspect", "positions", "--from", "wide")
    assert code == 2 and "grid 'wide'" in error
