"""Every kind of page, made from made-up runs: nothing is trained."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import yaml

from open_ldm.autoencoders import LatentStats
from open_ldm.autoencoders.reconstruct import Reconstructions, psnr_db
from open_ldm.commands.compare import compare_runs
from open_ldm.commands.compare_page import SampledGrid, write_page
from open_ldm.commands.demo import FULL
from open_ldm.commands.demo.captions import UNSEEN
from open_ldm.commands.demo.measure import ModelFindings
from open_ldm.commands.demo.page import write_page as write_demo
from open_ldm.commands.demo.verdict import judge
from open_ldm.evaluation.bootstrap import Estimate
from open_ldm.evaluation.shape_attributes import AgreementShares
from open_ldm.run_folder.report.page import write_report
from open_ldm.run_folder.report.stages import write_stages_report
from open_ldm.runs.autoencoder.checks import EVENT, sections_of, write_pictures
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.studies.catalogue import study_of
from open_ldm.studies.found import SettingFound, StudyFound
from open_ldm.studies.measure import SHOWN, save_strip
from open_ldm.studies.report import write_study
from open_ldm.studies.results import Measured, Value
from tests.run_folder.fake import CONFIG, PROMPTS, TOTAL, add_drawn, add_evaluation, add_held_out, event, make_run, shape_pixels


def run_report(folder: Path) -> Path:
    """A finished run with everything a report can show."""
    run = make_run(folder / "shapes-text-improved")
    add_held_out(run)
    add_evaluation(run, samples_seen=TOTAL)
    add_drawn(run, 1)
    add_drawn(run, 2, solver="dpmpp_2m")
    checkpoint = run / "checkpoints" / "samples-000000120000"
    checkpoint.mkdir(parents=True)
    (checkpoint / "MANIFEST.json").write_text("{}")
    return write_report(run)


def untrained(folder: Path) -> Path:
    """A folder with a recipe alone."""
    run = folder / "a-run-with-a-name-that-is-longer-than-any-telephone-is-wide-and-has-no-space"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(CONFIG)
    return write_report(run)


def stages(folder: Path) -> Path:
    """Two stages, the second of them with a receipt."""
    whole = folder / "staged"
    for name in ("1-small", "2-a-larger-one-with-a-long-name"):
        make_run(whole / "stages" / name, [TOTAL])
    add_held_out(whole / "stages" / "1-small")
    names = [f"blocks.{i}.attention.projection.weight" for i in range(3)]
    tensors = [{"name": name, "action": "kept", "source": [64, 64], "target": [64, 64], "reason": ""} for name in names]
    new = {"name": "semantic.embedding.weight", "action": "new", "source": None, "target": [24, 64], "reason": "class labels"}
    tensors.append(new)
    settings = {"data.transform.size_px": [32, 64], "conditioning.semantic.kind": ["text", "class"]}
    source = {"path": "runs/an-older-run", "checkpoint": "samples-000000120000", "weights": "ema"}
    (whole / "stages" / "2-a-larger-one-with-a-long-name" / "transfer.json").write_text(
        json.dumps({"source": source, "settings": settings, "tensors": tensors})
    )
    (whole / "config.yaml").write_text(yaml.safe_dump({"stages": [{"name": "small"}, {"name": "larger"}]}))
    add_drawn(whole)
    return write_stages_report(whole)


def autoencoder(folder: Path, held_out: int = 24, shown: int = 8) -> Path:
    """An autoencoder's run after its second check."""
    run = folder / "photos-autoencoder"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("network: {latent_channels: 4, widths: [32, 64, 64]}\nname: photos-autoencoder\n")
    argv = ["ldm", "autoencoder", "train", "photos-autoencoder"]
    lines = [event("start", 0, 0, argv=argv, parameters=1_300_000, device="cpu", data="8,000 pictures", total_samples=8000)]
    for seen in range(80, 8001, 80):
        fields = {"learning_rate": 1e-4, "samples_per_second": 80.0, "data_wait_share": 0.02}
        lines.append(event("train", seen, seen / 80, loss=0.1 + math.exp(-seen / 900), **fields))
        if seen % 2000 == 0:
            found = reconstructions(held_out, noise=math.exp(-seen / 4000))
            paths = write_pictures(found, shown, run / "reconstructions" / f"{seen:012d}")
            told = {"mean_psnr_db": found.mean_psnr_db, "worst_psnr_db": found.worst_psnr_db, "pictures": held_out}
            told |= {"channels_psnr_db": found.channels_psnr_db, "files": [str(path.relative_to(run)) for path in paths]}
            lines.append(event(EVENT, seen, seen / 80, **told))
    (run / "events.jsonl").write_text("\n".join(lines) + "\n")
    return write_report(run, sections_of(run))


def reconstructions(count: int, noise: float = 0.2) -> Reconstructions:
    """Noisy copies of shapes, each noisier than the one before."""
    given = torch.stack([shape_pixels(index, 48) for index in range(count)])
    added = torch.randn(given.shape, generator=torch.Generator().manual_seed(0)) * noise * 60
    added *= torch.linspace(0.3, 1, count).view(-1, 1, 1, 1)
    found = (given + added).round().clamp(0, 255).to(torch.uint8)
    return Reconstructions(given, found, psnr_db(found, given), LatentStats((0.0,), (1.0,)))


def compare(folder: Path) -> Path:
    """Four runs with long names, one of which cannot draw."""
    runs = []
    for number in range(4):
        run = make_run(folder / f"shapes-text-improved-variant-{number}", [TOTAL])
        add_evaluation(run, shift=number * 0.4)
        add_held_out(run)
        (run / "report.html").write_text("")
        runs.append(run)
    add_evaluation(runs[3], shift=9, samples_seen=64_000)
    found = compare_runs(runs)
    words = "dpmpp_2m, 25 steps, semantic scale 4, control scale 1.5, at 120,000 samples seen"
    pixels = torch.stack([shape_pixels(index) for index in range(8)])
    grids = [SampledGrid(run.name, pixels, PROMPTS, words) for run in found.runs[:3]]
    reason = "the model knows no class 'a large red circle'; needed: one of the 24 classes of this run; fix: --class NAME"
    return write_page(found, [*grids, SampledGrid(found.runs[3].name, None, (), "", reason)], folder / "compare.html")


def study(folder: Path) -> Path:
    """A declared study whose numbers are made up: two seeds of every arm, with pictures."""
    declared = study_of("control-parametrisation")
    settings = []
    for setting in declared.settings("small"):
        measured, folders = [], {}
        for number, arm in enumerate(setting.arms):
            for seed in range(2):
                run = folder / "study" / setting.name.replace(" ", "-") / f"arm{number}-seed{seed}"
                folders[arm, seed] = run / "study"
                (run / "study").mkdir(parents=True)
                (run / "report.html").write_text("")
                save_strip(run / "study" / SHOWN, torch.stack([shape_pixels(i) for i in range(8)]), 8, PROMPTS)
                values = {
                    name: Value(at := 20 / (1 + number) + seed, at - 0.4, at + 0.7, "abc")
                    for name in ("fid", "kid", "control_influence", "held_out_loss", "agreement")
                }
                refused = {"clip_score": "no extractor reads text"}
                measured.append(Measured(arm, seed, 80_000, values, refused))
        commands = tuple(f"ldm train {setting.recipe} training.seed={seed} --out out/{seed}" for seed in range(2))
        settings.append(SettingFound(setting, tuple(measured), folders, frozenset([*folders, ("late", 9)]), commands, 0.93))
    found = StudyFound(declared, "small", tuple(settings), ("ldm", "study", declared.name, "--scale", "small"))
    return write_study(found, folder / "study")


def demo(folder: Path) -> Path:
    """A finished demo in which one claim is wrong."""
    pixels = torch.stack([shape_pixels(index) for index in range(16)])
    shares = {UNSEEN: AgreementShares(32, 0.91, 0.87, 0.95, 0.8, 0.99, 0.7)}
    pictures = {**{f"size={side}": pixels for side in FULL.sizes_px}, UNSEEN: pixels, "flip=1": pixels.flip(-1)}

    def share(value: float) -> Estimate:
        return Estimate("share", value, max(0.0, value - 0.06), min(1.0, value + 0.06), 96)

    baseline = ModelFindings(share(0.92), Estimate("effect", 0.81, 0.7, 0.92, 96), share(0.52), None, shares, pictures)
    improved = ModelFindings(share(0.02), Estimate("effect", 0.02, 0.0, 0.05, 96), share(0.98), share(0.97), shares, pictures)
    write_demo(folder / "demo.html", ShapesConfig(), baseline, improved, judge(baseline, improved), 290.0)
    return folder / "demo.html"


PAGES: Mapping[str, Callable[[Path], Path]] = {
    "run": run_report,
    "untrained": untrained,
    "stages": stages,
    "autoencoder": autoencoder,
    "compare": compare,
    "study": study,
    "demo": demo,
}
