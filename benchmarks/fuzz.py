"""Input that nobody would write on purpose: is each one refused in one line, or understood as it was meant?

    python benchmarks/fuzz.py --json fuzz.json                           # 2,000 recipes, 500 of each other kind
    python benchmarks/fuzz.py --kinds recipes pictures --share 0.1       # a tenth of two kinds

Half of the inputs of a kind are drawn by hypothesis, from strategies that know its form. The other half are mutations of inputs
that reached lines of open_ldm which none before had reached. Each input ends as one of:

* `refused`: an OpenLdmError, a usage error or a counted bad sample, in one printable line under 300 characters;
* `accepted`: what was understood is written and read again as the same, holds no key that was not given a meaning, no number
  that is not finite, and no value of another type than its setting's;
* `traceback`: any other exception; `hang`: more than 10 s of processor time; `nonsense`: accepted against these rules; `line`:
  refused in a line that is too long or moves a cursor.

The exit code is 1 where anything but the first two came. Linux only; what is in the JSON file already is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from fuzz_mutate import Lines, NonsenseError
from open_ldm.core.errors import OpenLdmError

MOST_SECONDS = 10.0
FINE = ("accepted", "refused")
WATCHED = 2
"""Of so many mutations one is watched for the lines that it reaches, which takes three times as long."""


class HangError(BaseException):
    """An input took too long; no `except Exception` may hide it."""


class Kind(Protocol):
    """One kind of input."""

    count: int

    def begun(self) -> list[Any]:
        """Return good inputs to begin with."""

    def strategy(self) -> SearchStrategy[Any]:
        """Return what hypothesis draws."""

    def mutated(self, given: Any, draw: random.Random) -> Any:
        """Return a changed input."""

    def read(self, given: Any) -> str | None:
        """Read an input as the library does; the line it was refused with, if it was refused by other means than an error.

        Raises:
            NonsenseError: It was accepted and should not have been.
        """


@dataclass
class Found:
    """How the inputs of a kind ended, and the first of each fault."""

    count: Counter[str]
    faults: list[dict[str, str]]
    slowest_seconds: float = 0.0


def ending(kind: Kind, given_input: Any) -> tuple[str, str]:
    """Read one input; how it ended, and the words of it."""
    try:
        with limited(MOST_SECONDS):
            line = kind.read(given_input)
    except OpenLdmError as error:
        line = error.one_line()
    except HangError:
        return "hang", ""
    except NonsenseError as error:
        return "nonsense", str(error)
    except Exception as error:
        return "traceback", "".join(traceback.format_exception(error)[-4:])
    if line is None:
        return "accepted", ""
    return ("refused", line) if line.isprintable() and len(line) < 300 else ("line", line)


@contextmanager
def limited(seconds: float) -> Any:
    """Context manager that raises HangError after so much processor time."""

    def stop(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fuzz(kind: Kind, count: int, name: str, piece: int = 0) -> Found:
    """Read so many inputs of a kind, half of them drawn, half of them mutated; each piece has inputs of its own."""
    found, lines, draw = Found(Counter(), []), Lines(), random.Random(f"{name} {piece}")
    pool = kind.begun()

    def one(given_input: Any, guided: bool = False) -> None:
        started = time.process_time()
        with lines if guided else nullcontext():
            how, words = ending(kind, given_input)
        found.slowest_seconds = max(found.slowest_seconds, time.process_time() - started)
        found.count[how] += 1
        if how not in FINE:
            found.faults.append({"how": how, "input": repr(given_input)[:2000], "words": words})
            print(f"  {how}: {found.faults[-1]['input'][:300]}\n      {words[-600:]}", flush=True)
        elif guided and lines.new:
            pool.append(given_input)

    for each in pool.copy():
        if (ended := ending(kind, each))[0] != "accepted":
            raise RuntimeError(f"a good input of {name} is not accepted: {ended}")
    _drawn(kind.strategy(), count // 2, one, piece)
    for number in range(count - count // 2):
        one(kind.mutated(draw.choice(pool[-200:] if draw.random() < 0.7 else pool), draw), guided=number % WATCHED == 0)
    return found


def _drawn(strategy: SearchStrategy[Any], count: int, one: Callable[[Any], None], piece: int) -> None:
    checks = list(HealthCheck)

    @seed(18 + piece)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=checks)
    @given(strategy)
    def draws(given_input: Any) -> None:
        one(given_input)

    draws()


def kinds(folder: Path, only: Collection[str] | None = None) -> dict[str, Kind]:
    """All kinds, or `only` some; what they write goes into `folder`."""
    from fuzz_commands import Commands
    from fuzz_files import Metadata, Pictures, Shards
    from fuzz_recipes import Recipes

    made: dict[str, Callable[[Path], Kind]] = {
        "recipes": Recipes,
        "command lines": Commands,
        "metadata": Metadata,
        "shards": Shards,
        "pictures": lambda _: Pictures(),
    }
    return {name: make(folder) for name, make in made.items() if not only or name in only}


def main() -> int:
    """Fuzz all kinds; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+")
    parser.add_argument("--share", type=float, default=1.0, help="of the numbers of inputs")
    parser.add_argument("--pieces", type=int, default=1, help="the inputs of each kind come in so many pieces")
    parser.add_argument("--piece", type=int, help="only this one, from 0")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    table = json.loads(chosen.json.read_text()) if chosen.json and chosen.json.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/home"
        each = product(
            kinds(Path(name), chosen.kinds).items(), range(chosen.pieces) if chosen.piece is None else [chosen.piece]
        )
        for (words, kind), piece in each:
            part = words if chosen.pieces == 1 else f"{words}, {piece + 1} of {chosen.pieces}"
            if part not in table:
                found = fuzz(kind, max(2, round(kind.count * chosen.share / chosen.pieces)), words, piece)
                table[part] = {**found.count, "slowest_seconds": round(found.slowest_seconds, 2), "faults": found.faults}
            shown = {key: value for key, value in table[part].items() if key != "faults"}
            print(f"{part:<25}{json.dumps(shown)}", flush=True)
            if chosen.json:
                chosen.json.write_text(json.dumps(table, indent=1) + "\n")
    return int(any(each["faults"] for each in table.values()))


if __name__ == "__main__":
    sys.exit(main())
