"""`ldm studio`: what it was asked for on the command line, checked, and the server."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from open_ldm.core.device import DeviceName
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.core.slow_steps import SlowSteps
from open_ldm.run_folder.folder import is_run
from open_ldm.runs.recipe import load_recipe
from open_ldm.studio.app import build_app, import_gradio
from open_ldm.studio.device_queue import DeviceQueue
from open_ldm.studio.guard import LOCAL_NAMES
from open_ldm.studio.models import Models, demo_models
from open_ldm.studio.trainings import Training, Trainings, training_of

TOKEN = "LDM_STUDIO_TOKEN"
"""Environment variable with the token, which a command line would show to everybody on the machine."""


@dataclass(frozen=True)
class StudioOptions:
    """What the studio shows and how it listens.

    Attributes:
        runs: Run folders or checkpoints; none for the demo's models.
        recipes: Recipes that may be started from the page, each into runs/NAME.
        host: The address to listen at.
        port: The port; 0 for any that is free.
        token: That requests need where others can reach it; None makes one up.
        device: Where models are loaded.
    """

    runs: tuple[Path, ...] = ()
    recipes: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    device: DeviceName = "auto"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return (f"[{self.host}]" if ":" in self.host else self.host) in LOCAL_NAMES


def serve(options: StudioOptions, say: Callable[[str], None]) -> int:
    """Serve the studio until it is stopped. Returns the exit code.

    Args:
        options: What was asked for.
        say: Prints a line.

    Raises:
        ConfigError: There is nothing to show, a run or recipe does not exist, or the port is taken.
        MissingExtraError: The extra is not installed.
    """
    started = time.perf_counter()
    models, trainings = opened(options)
    slow = SlowSteps()
    slow("loading Gradio", import_gradio)
    uvicorn = need("uvicorn", extra="studio")
    token = token_of(options)
    with bound_socket(options.host, options.port) as listening:
        port = listening.getsockname()[1]
        queue = DeviceQueue()
        hosts = LOCAL_NAMES if options.is_local else ()
        app = slow("building the pages", build_app, models, trainings, queue, token, hosts)
        config = uvicorn.Config(app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        shown = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
        say(f"studio with {', '.join(models.names)} at {address} ({time.perf_counter() - started:.1f} s; Ctrl+C ends it)")
        if not options.is_local:
            say("warning: others can reach it, and what they send is not encrypted; an SSH tunnel to 127.0.0.1 is safer")
        server.run(sockets=[listening])
    return 0


def opened(options: StudioOptions) -> tuple[Models, Trainings]:
    """Return the models and trainings that the options name. Raises ConfigError for what does not exist."""
    paths = list(options.runs) or demo_models()
    recipes = _recipes(options.recipes)
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path} is no run folder", needed="a folder made by ldm train", fix="check the path")
    known = {path.resolve() for path in paths}
    folders = [*paths, *(training.run for training in recipes if training.run.resolve() not in known)]
    models = Models(folders, options.device)
    if not any(models.facts(name) for name in models.names):
        raise nothing_to_show(folders)
    by_path = {path.resolve(): name for name, path in models.paths.items()}
    named = {by_path[training.run.resolve()]: training for training in recipes}
    runs = {name: path for name, path in models.paths.items() if is_run(path) and name not in named and options.runs}
    return models, Trainings(runs, named)


def nothing_to_show(folders: Sequence[Path]) -> ConfigError:
    """Return the error for a studio without any model that could be sampled."""
    if folders:
        return ConfigError(f"{folders[0]} holds no checkpoint yet", needed="a run that has saved once", fix="ldm train first")
    return ConfigError("no run was named", needed="ldm studio RUN", fix="ldm demo trains two; then ldm studio runs/demo/*ed")


def token_of(options: StudioOptions) -> str | None:
    """Return the token that requests need: that of the option or the environment, one made up for other hosts, or None."""
    given = options.token or os.environ.get(TOKEN) or None
    if given is not None and (len(given) < 16 or not given.isascii() or not given.replace("-", "").replace("_", "").isalnum()):
        raise ConfigError(
            "the token cannot be used", needed="at least 16 letters, digits, - or _", fix="leave it out to get one"
        )
    return given or (None if options.is_local else secrets.token_urlsafe(24))


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises ConfigError where the address is not this machine's or the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(1024)
    except (OSError, OverflowError) as error:
        found.close()
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error}", fix="another --port, or --port 0 for any free one"
        ) from error
    return found


def _recipes(given: Sequence[str]) -> list[Training]:
    """Each recipe as a training into runs/NAME; a recipe that cannot be read is refused at once."""
    return [training_of(recipe, (), Path("runs") / load_recipe(recipe).name) for recipe in given]
