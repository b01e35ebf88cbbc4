"""Does a change of the source move behaviour? Two checkouts do the same work, and what they leave is compared bit by bit.

    python benchmarks/same_behaviour.py OLD_CHECKOUT                     # against this checkout
    python benchmarks/same_behaviour.py OLD NEW --out work --json same.json --denoisers dit unet
    python benchmarks/same_behaviour.py OLD --quick                      # mmdit and unet on live pixels, and the words
    python benchmarks/same_behaviour.py OLD --resume                     # before each release: old run folders alone

Each checkout is driven by its command line alone, side by side in two processes of one thread each, with the Python that
runs this script. For every denoiser, on pixels drawn live and from a cache: a tiny model is trained, trained again while
killed (SIGKILL) and started again, sampled and evaluated. Then: classes, an autoencoder and its latents, stages and transfer,
an export, a study, tables, and the words of all help pages. At last the new checkout samples from, and trains further, copies
of the run folders that the old one left, as the old one does itself: a checkpoint of the commit before gives the same losses
and the same last tensors. `--resume` does this alone, for one process and all denoisers, in a few minutes.

Compared are SHA-256 of every tensor and of the files that hold them (weights, averages, optimiser, cache shards, statistics),
of every PNG; events (kind, position, keys, values), config.yaml, every JSON file and everything printed by --json (keys and
values), names of files, command and option names. Not compared: times, speeds, versions, sentences, pages and plots
(`same_prints.py` lists the keys). A killed run must also end as the one that was not. The exit code is 1 on any difference;
--json keeps all of them. A command that fails on either side is a difference. Keep this machine quiet, or give more --patience.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from same_cases import DENOISERS, Case, cases, resumed_case
from same_prints import KINDS, Facts, commands_in, differences_of, facts_of, words_of
from same_side import FailedError, Side

QUICK = ("mmdit", "unet")


@dataclass(frozen=True)
class Row:
    """One line of the table. `counts`: facts compared, by kind; `differences`: those that are not equal, by kind."""

    case: str
    counts: dict[str, int]
    differences: dict[str, list[str]]
    seconds: float

    def line(self) -> str:
        """The printed line."""
        counts = "".join(f"{self.counts.get(kind, 0) or '':>9}" for kind in KINDS)
        found = "equal"
        if self.differences:
            numbers = ", ".join(f"{len(each):,} {kind}" for kind, each in self.differences.items())
            found = f"DIFFERENT ({numbers}) {next(iter(self.differences.values()))[0]}"
        return f"{self.case:<26}{counts}{self.seconds:>7.0f} s  {found}"


def run_words(side: Side) -> Facts:
    """Names of all commands and options, from the help pages."""
    folder = side.root / "words"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        command = waiting.pop()
        words = words_of(side.output([*command, "--help"], folder))
        (folder / f"{'-'.join(('ldm', *command))}.words").write_text("\n".join(words) + "\n", encoding="utf-8")
        waiting += [(*command, name) for name in commands_in(words)]
        if command == ("evaluate",):
            waiting.append(("evaluate", "fit-features"))  # named below its own page, not in a table
    return facts_of(folder)


def packaged(side: Side) -> Facts:
    """The packaged recipes, wherever they lie, as data."""
    found: Facts = {kind: {} for kind in KINDS}
    for path in sorted(side.source.rglob("*.yaml")):
        found["config"][path.name] = json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")), sort_keys=True)
    return found


def compare(case: str, old: Facts, new: Facts, seconds: float = 0.0, kinds: Sequence[str] = KINDS) -> Row:
    """The row of two sets of facts."""
    found = {kind: differences_of(old[kind], new[kind]) for kind in kinds}
    return Row(case, {kind: len(old[kind]) for kind in kinds}, {kind: each for kind, each in found.items() if each}, seconds)


def both(sides: Sequence[Side], name: str, work: Callable[[Side], Facts]) -> tuple[Row, list[Facts]]:
    """The same work on both sides at the same time, and what came of it; no facts where a command failed."""
    started = time.monotonic()
    with ThreadPoolExecutor(len(sides)) as pool:
        waiting = [pool.submit(work, side) for side in sides]
    if failed := [str(each.exception()) for each in waiting if isinstance(each.exception(), FailedError)]:
        return Row(name, {}, {"failed": failed}, time.monotonic() - started), []
    facts = [each.result() for each in waiting]
    return compare(name, facts[0], facts[1], time.monotonic() - started), facts


def same_pair(name: str, facts: Facts, pair: tuple[str, str]) -> Row:
    """Whether a killed and resumed run ended as the one in one go: tensors, previews, losses."""
    kinds = ("tensors", "pictures", "events")

    def part(run: str) -> Facts:
        return {
            kind: {key.removeprefix(run): value for key, value in facts[kind].items() if _of_pair(key, run)} for kind in kinds
        }

    return compare(name, part(pair[0]), part(pair[1]), kinds=kinds)


def _of_pair(key: str, run: str) -> bool:
    inside = key.removeprefix(run)
    of_training = inside.startswith(("/checkpoints/", "/samples/", "/reconstructions/", "/autoencoder/")) or "#train " in inside
    return inside != key and of_training


def all_rows(sides: Sequence[Side], chosen: Iterable[Case], *, words: bool = True) -> Iterable[Row]:
    """One row after the other, as they are known; those of help pages and packaged recipes with `words`."""
    if words:
        yield both(sides, "words", run_words)[0]
        yield both(sides, "packaged recipes", packaged)[0]
    for case in chosen:
        row, facts = both(sides, case.name, lambda side, case=case: side.run_case(case))  # type: ignore[misc]
        yield row
        if not facts:
            continue
        if case.pair is not None:
            for side, found in zip(sides, facts, strict=True):
                yield same_pair(f"  {side.name}: killed = whole", found, case.pair)
        if case.again:
            yield both(sides, "  old run folders", lambda side, case=case: side.run_again(case, sides[0]))[0]  # type: ignore[misc]


def main(given: Sequence[str] | None = None) -> int:
    """Compare, print and keep; 1 on any difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="Checkout of the commit before.")
    parser.add_argument("new", type=Path, nargs="?", default=Path(), help="Checkout of the commit after; here by default.")
    parser.add_argument("--out", type=Path, help="Folder to work in, kept afterwards; a temporary one by default.")
    parser.add_argument("--json", type=Path, help="File to write the rows to.")
    parser.add_argument("--denoisers", nargs="+", choices=list(DENOISERS), help="All five by default; with --quick two.")
    parser.add_argument("--cases", nargs="+", help="Only these, by their names in the table.")
    parser.add_argument("--quick", action="store_true", help="Live pixels of the denoisers and the words alone.")
    parser.add_argument("--resume", action="store_true", help="Run folders of the old checkout alone, gone on with by both.")
    parser.add_argument("--fresh", action="store_true", help="A new Python for every command, which takes twice as long.")
    parser.add_argument("--patience", type=float, default=300.0, help="Seconds that one command may take.")
    options = parser.parse_args(given)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="same-behaviour-") as temporary:
        root = (options.out or Path(temporary)).resolve()
        sides = [Side(name, root / name, options.patience, options.fresh) for name in ("old", "new")]
        for side, checkout in zip(sides, (options.old, options.new), strict=True):
            side.root.mkdir(parents=True, exist_ok=True)
            side.copy_source(checkout.resolve())
        denoisers = options.denoisers or (QUICK if options.quick else tuple(DENOISERS))
        every = map(resumed_case, denoisers) if options.resume else cases(denoisers, options.quick)
        chosen = [case for case in every if not options.cases or case.name in options.cases]
        print(f"{'case':<26}" + "".join(f"{kind:>9}" for kind in KINDS), flush=True)
        rows = []
        try:
            for row in all_rows(sides, chosen, words=not options.resume):
                rows.append(row)
                print(row.line(), flush=True)
        finally:
            for side in sides:
                side.stop()
    different = [row.case.strip() for row in rows if row.differences]
    seconds = time.monotonic() - started
    compared = sum(sum(row.counts.values()) for row in rows)
    print(f"{len(rows)} rows, {len(different)} different, {seconds:.0f} s; facts compared: {compared:,}")
    if options.json is not None:
        content = {"different": different, "seconds": round(seconds, 1), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 1 if different else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # what was started is ended on the way out
    sys.exit(main())
