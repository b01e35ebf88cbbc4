"""Which solver and how many steps a model needs: Fréchet distance of samples and seconds, for each solver and number of steps.

    python benchmarks/samplers.py RUN --json samplers.json                       # features are fitted on the run's own pictures
    python benchmarks/samplers.py RUN --pictures 2000 --solvers ddim dpmpp_2m --steps 50 25 12 --extractor FOLDER

Guidance is the recipe's, or `--semantic-scale`; `--interval 0.2 0.8` adds a second row for each, which guides at those times
alone. All rows sample the same seeds with the same prompts or classes, against the same pictures. Seconds are of 64 pictures,
the median of three rounds in which the rows take turns. The row to choose is the one of the fewest seconds whose distance is
not above that of 50-step DDIM: its interval must end no higher than DDIM's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import open_ldm
from figures import processor
from open_ldm.commands.evaluate.config import changed
from open_ldm.evaluation.own_features import FOLDER, own_features
from open_ldm.runs.load import load_run
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import open_data
from open_ldm.studies.measure import prompts_of

TIMED_PICTURES, ROUNDS = 64, 3
PER_STEP = {"heun": 2}
"""Network evaluations of a step, where not one; guidance doubles them."""
REFERENCE = ("ddim", 50)


@dataclass
class Row:
    """One way to sample. `low`, `high`: interval of the distance; `evaluations`: of the network, guidance not counted."""

    solver: str
    steps: int
    interval: tuple[float, float] | None
    evaluations: int
    fid: float = 0.0
    low: float = 0.0
    high: float = 0.0
    seconds: float = 0.0
    rounds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the row, for people."""
        guided = "" if self.interval is None else f", guided in {self.interval[0]:g} to {self.interval[1]:g}"
        return f"{self.solver}, {self.steps} steps{guided}"

    def sampling(self, scale: float | None) -> dict[str, Any]:
        """Changes to the sampling settings of the run."""
        guidance: dict[str, Any] = {} if scale is None else {"semantic_scale": scale}
        if self.interval is not None:
            guidance["interval"] = list(self.interval)
        return {"solver": self.solver, "steps": self.steps, "guidance": guidance}


def rows_of(args: argparse.Namespace) -> list[Row]:
    """All rows; that of the reference first."""
    pairs = [REFERENCE, *((solver, steps) for solver in args.solvers for steps in args.steps)]
    intervals = [None, *([tuple(args.interval)] if args.interval else [])]
    return [
        Row(solver, steps, interval, steps * PER_STEP.get(solver, 1))
        for solver, steps in dict.fromkeys(pairs)
        for interval in intervals
    ]


def measured(run: open_ldm.Run, row: Row, extractor: Any, args: argparse.Namespace, folder: str) -> None:
    """Fill in the distance of a row."""
    found = open_ldm.evaluate(
        run,
        metrics="fid",
        extractors=[extractor],
        n=args.pictures,
        settings={"sampling": row.sampling(args.semantic_scale)},
        out=Path(folder) / row.name.replace(" ", "-"),
        cache=Path(folder) / "references",
        progress=False,
    )
    estimate = found.results[0].estimate
    row.fid, row.low, row.high = estimate.value, estimate.low, estimate.high


def timed(run: open_ldm.Run, rows: Sequence[Row], args: argparse.Namespace) -> None:
    """Fill in the seconds of every row: of `TIMED_PICTURES` pictures, all rows in turns."""
    loaded = load_run(run.path)
    requests = [SampleRequest(seed, shows) for seed, shows in enumerate(prompts_of(loaded, TIMED_PICTURES))]
    inputs, seeds = loaded.build_inputs(requests), [request.seed for request in requests]
    settings = loaded.recipe.sampling.model_dump(mode="json")
    for turn in range(ROUNDS + 1):
        for row in rows:
            config = SamplingConfig.model_validate(changed(settings, row.sampling(args.semantic_scale)))
            start = time.perf_counter()
            loaded.generator.images(inputs, seeds, config)
            if turn:  # the first round warms up
                row.rounds.append(round(time.perf_counter() - start, 4))
    for row in rows:
        row.seconds = median(row.rounds)


def fitted(run: open_ldm.Run) -> dict[str, Any]:
    """The features fitted on the run's own pictures, in its folder."""
    content: dict[str, Any] = own_features(open_data(run.recipe.data), run.folder / FOLDER).config.model_dump(mode="json")
    return content


def chosen(rows: Sequence[Row]) -> Row:
    """The quickest row whose interval ends no higher than the reference's, which is the first.

    Its lower end would say little: the fewer pictures, the wider the interval, and ever worse samplers would pass.
    """
    return min((row for row in rows if row.high <= rows[0].high), key=lambda row: row.seconds)


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, by seconds; the chosen one in bold."""
    best, reference = chosen(rows), rows[0]
    lines = ["| sampler | FD | seconds for 64 pictures | of 50-step DDIM's time |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda each: each.seconds):
        name = f"**{row.name}**" if row is best else row.name
        share = f"{row.seconds / reference.seconds:.2f}"
        lines.append(f"| {name} | {row.fid:.3g} [{row.low:.3g}, {row.high:.3g}] | {row.seconds:.2f} | {share} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print row by row, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, or a checkpoint in it")
    parser.add_argument("--solvers", nargs="+", default=["ddim", "euler", "heun", "dpmpp_2m"])
    parser.add_argument("--steps", nargs="+", type=int, default=[50, 25, 16, 12, 8, 6])
    parser.add_argument(
        "--interval", nargs=2, type=float, metavar=("LOW", "HIGH"), help="times of guidance, for a second row each"
    )
    parser.add_argument("--semantic-scale", type=float, help="of guidance; the recipe's by default")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--extractor", type=Path, help="features; by default those fitted on the run's pictures")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    run = open_ldm.load_run(args.run)
    rows = rows_of(args)
    timed(run, rows, args)
    extractor = str(args.extractor) if args.extractor else fitted(run)
    with tempfile.TemporaryDirectory() as folder:
        for number, row in enumerate(rows, start=1):
            measured(run, row, extractor, args, folder)
            print(f"{row.name}: FD {row.fid:.4g} [{row.low:.4g}, {row.high:.4g}], {row.seconds:.3f} s", flush=True)
            if args.json:
                facts = {"date": date.today().isoformat(), "processor": processor(), "run": run.recipe.name}
                content = {**facts, "pictures": args.pictures, "rows": [asdict(each) for each in rows[:number]]}
                args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
