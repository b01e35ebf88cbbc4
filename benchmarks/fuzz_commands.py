"""Command lines for `fuzz.py`: any command with any options, run in this process beside a tiny trained run.

Whatever would train or sample for long finds that it was asked to stop, and no further processes are launched.
"""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import typer
import yaml
from hypothesis import strategies as st
from PIL import Image

from fuzz_mutate import ODD, NonsenseError
from open_ldm.cli.main import app
from open_ldm.cli.main import main as ldm
from open_ldm.core.errors import ConfigError
from open_ldm.core.signals import StopRequest
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train

NOT_FINITE = ("nan", "inf", "-inf", "+inf", "infinity", "1e400")
NAMES = ("tiny.yaml", "run", "run/config.yaml", "pictures", "pictures/0.png", "shapes-stages", "cifar10-dit", "nothing", "out")
CHANGES = (
    *("training.samples=8", "training.batch_size=0", "training.samples=1e400", "training.seed=true", "name=", "=", "a=b", "x"),
    *("denoiser.kind=unet", "denoiser={kind: dit, depth: nan}", "data.source.path=pictures", "data.source={kind: folder}"),
    *("conditioning.controls.flip.gate.kind=constant", "conditioning.controls.9.x=1", "stages=[{name: a}, {name: a}]"),
    *("training.optimizer.betas=[2, 3]", "training.optimizer.learning_rate=-inf", "sampling.steps=0", "preview.count=9e9"),
)
VALUES = (
    *(
        "0",
        "1",
        "2",
        "-1",
        "0.5",
        "1e-3",
        "8x8",
        "16x16",
        "0x0",
        "99999x1",
        "red circle",
        "flip=1",
        "size=8,16",
        "a=b,c",
        ":",
        ",",
    ),
    *("cpu", "cuda", "float32", "euler", "ddim", "csv", "kid", "fid", "all", "x.png", "out", *NOT_FINITE),
    *(each for each in ODD if isinstance(each, str) and "\0" not in each and "\ud800" not in each),
)
SLOW = ("demo", "study", "doctor", "models")
"""Commands that work for long whatever they are given, or look at the whole machine."""


class Commands:
    """Lists of arguments."""

    count = 500

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "fuzzed-commands"
        (self._folder / "pictures").mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (20, 16 + number), (60 * number, 0, 0)).save(self._folder / "pictures" / f"{number}.png")
        (self._folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        train(load_recipe(str(self._folder / "tiny.yaml")), self._folder / "run", silent=True)
        os.environ["HF_HUB_OFFLINE"] = "1"
        self._commands = dict(_commands(typer.main.get_command(app)))

    def begun(self) -> list[list[str]]:
        """Return commands that work."""
        return [
            ["train", "tiny.yaml", "--dry-run"],
            ["recipes"],
            ["data", "survey", "pictures"],
            ["sample", "run", "--out", "sampled", "--steps", "1", "--count", "1"],
            ["plan", "tiny.yaml", "--no-measure"],
            ["transfer", "run", "tiny.yaml", "--dry-run"],
            ["inspect", "tokens", "run"],
            ["inspect", "positions"],
            ["recipes", "--json"],
        ]

    def strategy(self) -> st.SearchStrategy[list[str]]:
        """Return any command with arguments and options that it has, of any value."""
        return st.sampled_from(sorted(self._commands)).flatmap(self._of_command)

    def _of_command(self, name: str) -> st.SearchStrategy[list[str]]:
        texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
        values = st.sampled_from([*NAMES, *VALUES]) | st.sampled_from(NAMES) | texts
        options, arguments, any_number = self._commands[name]
        words = [[option] if flag else [option, None] for option, flag in options]
        given = st.lists(st.sampled_from(words or [["--json"]]), max_size=3, unique_by=tuple)
        filled = given.flatmap(lambda each: st.tuples(*(st.just(word) if word else values for words in each for word in words)))
        placed = st.lists(st.sampled_from(NAMES[:4]) | values, min_size=arguments, max_size=arguments)
        changes = st.lists(st.sampled_from(CHANGES) | values, max_size=2 if any_number else 0)
        return st.tuples(placed, changes, filled).map(lambda each: [*name.split(), *each[0], *each[1], *each[2]])

    def mutated(self, given: list[str], draw: random.Random) -> list[str]:
        """Return a command with another word, one more or one less."""
        changed = list(given if draw.random() < 0.5 else draw.choice(self.begun()))
        for _ in range(draw.choice((1, 1, 2))):
            at = draw.randrange(len(changed) + 1)
            words = [*NAMES, *CHANGES, *VALUES, *(option for option, _ in self._options_of(changed))]
            match draw.randrange(3):
                case 0:
                    changed.insert(at, draw.choice(words))
                case 1 if at < len(changed) and len(changed) > 1:
                    del changed[at]
                case _ if at < len(changed) and at:
                    changed[at] = draw.choice(words)
                case _:
                    changed.append(draw.choice(words))
        return changed if changed[0] not in SLOW else ["recipes"]

    def _options_of(self, given: list[str]) -> list[tuple[str, bool]]:
        known = next(
            (self._commands[name] for name in (" ".join(given[:2]), given[0]) if name in self._commands), ([], 0, False)
        )
        return known[0]

    def read(self, given: list[str]) -> str | None:
        """Run it."""
        out, errors = io.StringIO(), io.StringIO()
        stubs = (
            mock.patch.object(StopRequest, "__enter__", _asked_to_stop),
            mock.patch("open_ldm.commands.launch.launch", _no_launch),
        )
        with stubs[0], stubs[1], chdir(self._folder), redirect_stdout(out), redirect_stderr(errors):
            try:
                ldm(given)
            except SystemExit as ended:
                code = int(ended.code or 0)
        if code == 75 and "error: " not in errors.getvalue():
            return "stopped"
        if code:
            return self._refused(given, code, out.getvalue(), errors.getvalue())
        for option, value in pairwise(given):
            if value.strip().lower() in NOT_FINITE and option in self._numbers():
                raise NonsenseError(f"{option} {value} was accepted")
        if "--json" in given and out.getvalue().strip():
            json.loads(out.getvalue(), parse_constant=_no_constant)
        return None

    def _refused(self, given: list[str], code: int, out: str, errors: str) -> str:
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        if "--json" in given and not lines:
            content = json.loads(out.strip().splitlines()[-1], parse_constant=_no_constant)
            lines = [f"error: {content['error']}"]
        if len(lines) != 1:
            raise AssertionError(f"exit code {code} with the lines {lines or errors[-500:]}")
        line = lines[0].removeprefix("error: ")
        if line.startswith("unexpected ") or code == 70:
            raise AssertionError(f"exit code {code}: {line}")
        return line

    def _numbers(self) -> set[str]:
        command: Any = typer.main.get_command(app)
        return {
            option
            for each in _leaves(command)
            for parameter in each.params
            if parameter.param_type_name == "option"
            and parameter.type.name in ("float", "integer", "float range", "integer range")
            for option in parameter.opts
        }


TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": {"kind": "shapes", "length": 12}, "transform": {"size_px": 8}, "workers": 0},
    "latent_stats": {"kind": "measured", "pictures": 8},
    "conditioning": {
        "semantic": {"kind": "text", "encoder": {"kind": "words", "length": 4, "width": 8}},
        "controls": [{"kind": "original_size"}, {"kind": "flip"}],
    },
    "denoiser": {"kind": "dit", "size": "XS", "patch": 4, "depth": 1, "width": 16, "heads": 1},
    "training": {"samples": 8, "batch_size": 4, "checkpoint_every_samples": 8, "device": "cpu", "dtype": "float32"},
    "sampling": {"solver": "euler", "steps": 1},
    "preview": {"count": 1},
}


def _asked_to_stop(request: StopRequest) -> StopRequest:
    request.name = "SIGTERM"
    return request


def _no_launch(*_: Any, **__: Any) -> int:
    raise ConfigError("no processes are launched here")


def _no_constant(name: str) -> Any:
    raise NonsenseError(f"JSON with {name}")


def _leaves(command: Any) -> Iterator[Any]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield command
    for each in (inner or {}).values():
        yield from _leaves(each)


def _commands(command: Any, name: str = "") -> Iterator[tuple[str, tuple[list[tuple[str, bool]], int, bool]]]:
    """Names of all commands, with their options and whether these take no value, how many arguments they need, and if more."""
    for word, each in command.commands.items():
        whole = f"{name} {word}".strip()
        if whole.split()[0] in SLOW:
            continue
        if hasattr(each, "commands"):
            yield from _commands(each, whole)
        else:
            options = [option for option in each.params if option.param_type_name == "option"]
            arguments = [argument for argument in each.params if argument.param_type_name == "argument"]
            needed = sum(argument.nargs == 1 for argument in arguments)
            yield whole, ([(one.opts[0], bool(one.is_flag)) for one in options], needed, needed < len(arguments))
