"""The command line: arguments in, exit code out. Heavy imports wait until a command runs."""

from __future__ import annotations

import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import typer

from open_ldm import __version__
from open_ldm.cli import autoencoder, data, evaluate, inspect, publish
from open_ldm.cli.compare import compare
from open_ldm.cli.demo import demo
from open_ldm.cli.doctor import doctor
from open_ldm.cli.ema import ema
from open_ldm.cli.encode import encode
from open_ldm.cli.help_lists import HelpWithLists
from open_ldm.cli.import_export import export, import_
from open_ldm.cli.models import models
from open_ldm.cli.plan import plan
from open_ldm.cli.recipes import recipes
from open_ldm.cli.repeated import refuse_repeated
from open_ldm.cli.sample import sample
from open_ldm.cli.speedrun import speedrun
from open_ldm.cli.studio import studio
from open_ldm.cli.study import study
from open_ldm.cli.train import train
from open_ldm.cli.transfer import transfer
from open_ldm.core.errors import ConfigError, OpenLdmError, debugging, exit_code_of
from open_ldm.core.habits import meant_by
from open_ldm.core.launch import HOW_TO_LAUNCH, TORCHRUN_OPTIONS, leave_code
from open_ldm.core.plain_data import to_json

_MAY_BE_EMPTY = ("--prompt", "--negative-prompt", "--sweep", "--class")
"""Options of text, for which no text is a value, or has an error of its own."""

_OF_RECIPES = (
    "train",
    "transfer",
    "encode",
    "plan",
    "demo",
    "study",
    "speedrun",
    "import",
    "data survey",
    "data stats",
    "inspect schedule",
)
"""Commands that take settings of a recipe as KEY=VALUE."""

app = typer.Typer(
    name="ldm",
    help="Train latent diffusion models from scratch on your own pictures. --debug anywhere adds the traceback to an error.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(demo)
app.command()(train)
app.command()(transfer)
app.command()(encode)
app.command(cls=HelpWithLists)(sample)
app.command()(ema)
app.command()(studio)
app.command()(study)
app.command()(speedrun)
app.command()(compare)
app.command()(recipes)
app.command()(models)
app.command()(plan)
app.command()(doctor)
app.command("import")(import_)
app.command()(export)
app.add_typer(autoencoder.app, name="autoencoder")
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(inspect.app, name="inspect")
app.add_typer(publish.app, name="publish")


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `ldm`. Expected failures print one line; `--debug` or LDM_DEBUG=1 adds the traceback."""
    _print_anything()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or debugging()
    if "WORLD_SIZE" in os.environ or "SLURM_STEP_NUM_TASKS" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a lost process is named in one line, not by stacks of C++
    given = [argument for argument in given if argument != "--debug"] or ["--help"]
    code = 0
    try:
        _refuse_empty(given)
        refuse_repeated(given, *_command_in(given))
        result = app(given, prog_name="ldm", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except typer.Exit as exit_:
        code = exit_.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = _fail(given, "interrupted", 130, debug=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        message, code = _explained(_of_all(error), given)
        _fail(given, message, code, debug)
    leave_code(code)
    sys.exit(code)


def _print_anything() -> None:
    """A pipe on Windows has an alphabet without "→" or "β": such a sign becomes "?" there, and is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _refuse_empty(given: Sequence[str]) -> None:
    """Raise ConfigError for an argument without content, as an unset variable of a shell gives it: no folder is meant by it."""
    for before, argument in pairwise(("", *given)):
        option, equals, value = argument.partition("=")
        if not argument.strip() and before not in _MAY_BE_EMPTY:
            behind = before if before.startswith("--") else ""
        elif option.startswith("--") and equals and not value.strip() and option not in _MAY_BE_EMPTY:
            behind = option
        else:
            continue
        raise ConfigError(f"{behind or 'an argument'} is empty", needed="a value", fix="leave it out, or check the variable")


def _of_all(error: Exception) -> Exception:
    """The error that all processes end with, where there are several."""
    if os.environ.get("WORLD_SIZE", "1") == "1" and "SLURM_STEP_NUM_TASKS" not in os.environ:
        return error
    from open_ldm.core.distributed import told_to_all

    return told_to_all(error)


def _command_in(given: Sequence[str]) -> tuple[str, Any]:
    """The command that the arguments begin with, such as `ldm data survey`, and what it is; `ldm` where they name none."""
    named: list[str] = ["ldm"]
    command: Any = typer.main.get_command(app)
    for word in given:
        if (inside := getattr(command, "commands", {}).get(word)) is None:
            break
        command = inside
        named.append(word)
    return " ".join(named), command


def _meant_by(option: str, named: str, command: Any) -> str:
    """What somebody means here who types an option of other trainers; empty for any other, and for what is not taken here."""
    options = {name for one in getattr(command, "params", ()) for name in getattr(one, "opts", ())}
    return meant_by(option, lambda wanted: wanted in options if wanted.startswith("--") else _takes(named, wanted))


def _takes(named: str, setting: str) -> bool:
    """Whether a command takes a setting of a recipe as KEY=VALUE."""
    from open_ldm.core.fields import has_setting

    if named == "ldm autoencoder train":
        from open_ldm.runs.autoencoder.recipe import AutoencoderRecipe

        return has_setting(AutoencoderRecipe, setting)
    if named.removeprefix("ldm ") not in _OF_RECIPES:
        return False
    from open_ldm.runs.recipe import Recipe

    return has_setting(Recipe, setting)


def _usage(message: str, given: Sequence[str]) -> str:
    """The parser's own words as what was given, needed and the fix."""
    words = re.sub(r", unable to parse.*", "", " ".join(message.split()))
    words = re.sub(r": (?:Value error, )?('.*') is not one of ", r": \1; needed: one of ", words)
    said = words.replace(": Input should be ", "; needed: ").removesuffix(".")
    if any(option in said for option in TORCHRUN_OPTIONS):
        return f"{said}; fix: {HOW_TO_LAUNCH}"
    option = re.match(r"No such option:? '?(--[\w-]+)", said)
    named, command = _command_in(given)
    meant = _meant_by(option[1], named, command) if option else ""
    return f"{said}{f'; did you mean {meant}?' if meant else ''}; fix: see {named} --help"


def _explained(error: Exception, given: Sequence[str]) -> tuple[str, int]:
    """One line and the exit code for any error of the command line `given`."""
    if isinstance(error, OpenLdmError):
        return error.one_line(), error.exit_code
    if callable(usage := getattr(error, "format_message", None)):  # the parser's own errors, wherever typer keeps them
        return _usage(str(usage()), given), 2
    text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    match code := exit_code_of(error):
        case 71:
            return f"out of memory ({text}); fix: a smaller training.micro_batch_size, or sampling.batch_size", code
        case 74 | 77:
            return f"the disk refused ({text}); fix: check space and permissions", code
        case _:
            return f"unexpected {text}; fix: run again with --debug and report what it prints", code


def _fail(given: Sequence[str], message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if "--json" in given:
        content: dict[str, Any] = {"error": message, "code": code}
        print(to_json(content))
    else:
        print(f"error: {message}", file=sys.stderr)
    return code
