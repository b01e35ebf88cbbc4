"""A run folder as training leaves it: interrupted once, a step not finite, bad pictures and hostile captions."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from open_ldm.core.pictures import grid, save_png, to_images, to_pixels
from open_ldm.evaluation.bootstrap import Estimate
from open_ldm.evaluation.protocol import MeasurementProtocol, Result
from open_ldm.evaluation.stored import store

HOSTILE = '<script>alert("x")</script> & "quotes"'
BEGIN = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
TOTAL = 120_000
PROMPTS = [
    "a large red circle on the left",
    "a small blue square on the right",
    "a large green triangle on the right",
    "a small yellow cross on the left",
    "a large purple square to the left of a small orange circle",
    "a small red cross to the right of a large blue triangle",
    HOSTILE,
    "a small green circle on the left",
]
CONFIG = f"""\
data:
  source: {{kind: shapes, length: 100000, two_shapes: 0.5}}
  # {HOSTILE}
conditioning:
  semantic: {{kind: text, route: context}}
  semantic_drop: 0.1
  controls:
  - kind: original_size
    gate: {{kind: power_cosine, alpha: 8.0}}
  - kind: crop
    gate: {{kind: constant}}
  - kind: flip
    gate: {{kind: constant}}
  - kind: aspect_ratio
    gate: {{kind: cosine_power, alpha: 2.0}}
denoiser: {{kind: mmdit, size: XS, patch: 4}}
training: {{batch_size: 32}}
"""


def shape_pixels(index: int, side: int = 32) -> torch.Tensor:
    """One clean shape on a light ground, uint8 [3, side, side]."""
    colours = ["#d33", "#36c", "#2a5", "#db2", "#83b", "#e82", "#888", "#2a5"]
    picture = Image.new("RGB", (side, side), "#eeeeea")
    draw = ImageDraw.Draw(picture)
    x, size = (4, 16) if index % 2 == 0 else (16, 10)
    box = (x, 8, x + size, 8 + size)
    (draw.ellipse if index % 3 == 0 else draw.rectangle)(box, fill=colours[index % len(colours)])
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return data.reshape(side, side, 3).permute(2, 0, 1).contiguous()


def write_previews(run: Path, marks: Sequence[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((len(PROMPTS), 3, 32, 32), generator=generator)
    clean = to_images(torch.stack([shape_pixels(index) for index in range(len(PROMPTS))]))
    for seen in marks:
        share = math.exp(-6 * seen / TOTAL)
        pictures = to_pixels((1 - share) * clean + share * noise)
        save_png(run / f"samples/{seen:09d}.png", grid(pictures, 4, captions=PROMPTS))


def event(name: str, samples_seen: int, after_seconds: float, /, **fields: Any) -> str:
    time = (BEGIN + timedelta(seconds=after_seconds)).isoformat(timespec="milliseconds")
    return json.dumps({"event": name, "time": time, "samples_seen": samples_seen, **fields})


def write_events(run: Path, marks: Sequence[int]) -> None:
    draw = random.Random(5)
    start = {"argv": ["/usr/bin/ldm", "train", "shapes-text", "denoiser.size=XS"], "parameters": 1_812_480}
    start |= {"device": "cpu, 2 threads, bf16", "data": "100,000 pictures, 24 classes, captions (shapes)"}
    lines = [event("start", 0, 0, **start, total_samples=TOTAL, fingerprint="ab12")]
    killed, saved = 64_000, 57_600
    for first, last, offset in ((0, killed, 0.0), (saved, TOTAL, 140.0)):
        if first:
            lines.append(event("resume", saved, 140 + saved / 450, bitwise="yes"))
        for seen in range(first + 320, last + 1, 320):
            loss: float | str = 0.16 + 0.9 * math.exp(-seen / 9000) + abs(draw.gauss(0, 0.03))
            loss = "nan" if seen == 32_000 else 4.0 if seen == 80_000 else loss
            rate = 3e-4 * min(1, seen / 6400) * (1 if seen < 90_000 else (TOTAL - seen) / 30_000)
            speed = 450 + draw.gauss(0, 12)
            more = {"grad_norm": 1.0, "learning_rate": rate, "samples_per_second": speed, "data_wait_share": 0.012}
            lines.append(event("train", seen, offset + seen / 450, loss=loss, **more))
            if loss == "nan":
                lines.append(event("nonfinite", seen, offset + seen / 450, what="loss"))
            if seen in marks:
                fields = {"file": f"samples/{seen:09d}.png", "prompts": PROMPTS, "seconds": 2.1}
                lines.append(event("preview", seen, offset + seen / 450, **fields))
    lines.append(event("checkpoint", TOTAL, 410, name="step-00003750", bytes=29_012_345, seconds=0.42))
    lines.append(event("warning", TOTAL, 411, message=f"could not read {HOSTILE}.jpg"))
    lines.append(event("end", TOTAL, 412, code=0, reason="all samples seen", seconds=272.0))
    (run / "events.jsonl").write_text("\n".join(lines) + "\n" + '{"event": "tra')


FEW = {"missing": 21, "unlisted": {}, "pictures": 2000}
COLUMNS = {
    "exposure_ms": {"quantiles": {"smallest": 40.4, "q05": 45.0, "median": 118.5, "largest": 1971.2}, "counts": {}} | FEW,
    HOSTILE: {"quantiles": None, "counts": {f"stain {number} {HOSTILE}": 99 - number for number in range(15)}} | FEW,
    "stain_2": {"quantiles": None, "counts": {"HE": 3, "PAS": 2}, "missing": 4, "unlisted": {"M T": 5}, "pictures": 14},
    "empty": {"quantiles": None, "counts": {}, "missing": 14, "unlisted": {}, "pictures": 14},
}
"""Columns of metadata as data.json has them."""


def write_data(run: Path) -> None:
    survey = {
        "examined": 2000,
        "original_height_px": {"min": 40, "5 %": 48, "median": 72, "95 %": 121, "max": 128},
        "original_width_px": {"min": 40, "5 %": 47, "median": 75, "95 %": 124, "max": 128},
        "short_side_px": {"min": 40, "5 %": 44, "median": 61, "95 %": 103, "max": 126},
        "aspect_ratio": {"min": 0.5, "5 %": 0.61, "median": 1.0, "95 %": 1.63, "max": 2.0},
        "captions": PROMPTS,
        "class_counts": {f"class {number}": 80 + number for number in range(24)},
        "columns": COLUMNS,
    }
    bad = {"truncated or damaged": ["a/00017.jpg", f"{HOSTILE}.png"], "too large": [f"{n}.png" for n in range(9)]}
    content = {"sentence": f"100,000 pictures, captions {HOSTILE}", "survey": survey, "health": {"bad": bad}}
    (run / "data.json").write_text(json.dumps(content))


MARKS = (1600, 4800, 9600, 16_000, 24_000, 32_000, 40_000, 48_000, 56_000, 64_000, 80_000, 96_000, 112_000, TOTAL)


def make_run(run: Path, marks: Sequence[int] = MARKS) -> Path:
    """A finished run in that folder, with a preview after each of `marks` samples."""
    (run / "samples").mkdir(parents=True)
    write_previews(run, marks)
    write_events(run, marks)
    write_data(run)
    (run / "config.yaml").write_text(CONFIG)
    (run / "exit.json").write_text(json.dumps({"code": 0, "reason": "all samples seen"}))
    return run


def add_held_out(run: Path) -> None:
    """The loss on held-out pictures, measured six times."""
    times = [number / 8 for number in range(1, 9)]
    lines = (run / "events.jsonl").read_text().splitlines()
    for seen in range(20_000, TOTAL + 1, 20_000):
        mean = 0.3 + 0.5 * math.exp(-seen / 30_000)
        levels = [mean * (1.4 - t) for t in times]
        fields = {"pictures": 1000, "mean": mean, "low": mean - 0.02, "high": mean + 0.03, "times": times, "levels": levels}
        lines.insert(-2, event("held_out", seen, 300, **fields))
    (run / "events.jsonl").write_text("\n".join(lines))


def add_evaluation(run: Path, shift: float = 0.0, samples_seen: int = TOTAL) -> None:
    """evaluation.json with a value of two metrics, one of them with a warning and a long protocol, and one refused."""
    features = {"extractor.name": "inception-2015 <b>", "extractor.weights": "ab12" * 16, "interval": "95 % by 100 replicates"}
    sampling = {"sampling.solver": "dpmpp_2m", "sampling.steps": "25", "sampling.seeds": "0..999"}
    few = ("only 1,000 pictures: the value is too high, compare it with its like alone",)
    results = [
        Result(
            Estimate("fid", 23.4567 + shift, 22.9 + shift, 24.1 + shift, 1000, few),
            MeasurementProtocol({"metric": "fid", "n": "1000", **features, **sampling}),
        ),
        Result(
            Estimate("precision", 0.7123 + shift / 100, 0.69, 0.73, 1000),
            MeasurementProtocol({"metric": "precision_recall(k=5)", "n": "1000", **features, **sampling}),
        ),
    ]
    store(run, results, samples_seen, {"clip_score": "no extractor reads text; give a CLIP folder"}, {})


def add_drawn(run: Path, number: int = 1, solver: str = "heun") -> Path:
    """RUN/drawn/NNNN as `ldm sample` leaves it."""
    folder = run / "drawn" / f"{number:04d}"
    folder.mkdir(parents=True)
    save_png(folder / "grid.png", grid([shape_pixels(index) for index in range(8)], 8, captions=PROMPTS))
    guidance = {"semantic_scale": 4.0, "control_scale": 1.5}
    pictures = [{"seed": seed, "shows": shown, "controls": {"size": "64x64"}} for seed, shown in enumerate(PROMPTS)]
    content = {"samples_seen": TOTAL, "sampling": {"solver": solver, "steps": 20, "guidance": guidance}, "pictures": pictures}
    (folder / "samples.json").write_text(json.dumps({**content, "negative_prompt": HOSTILE}))
    return folder
