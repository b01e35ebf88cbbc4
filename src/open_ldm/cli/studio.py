"""`ldm studio`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from open_ldm.cli.options import load_torch, show


def studio(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="[RUN]...", help="Run folders; the demo's two if none.")] = None,
    recipe: Annotated[
        list[str] | None, typer.Option(help="A recipe that the page may start, into runs/NAME; may be given often.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; any but this machine's own needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 7860,
    token: Annotated[
        str | None, typer.Option(help="What requests must know; LDM_STUDIO_TOKEN hides it. Made up for other hosts.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> int:
    """Play with models in a browser: sample, sweep controls, watch runs, compare. It asks no other machine for anything."""
    from typing import get_args

    load_torch(silent=False)
    from open_ldm.core.device import DeviceName
    from open_ldm.core.errors import ConfigError, nearest
    from open_ldm.studio.serve import StudioOptions, serve

    possible = get_args(DeviceName)
    if device not in possible:
        raise ConfigError(f"--device {device!r} is unknown", needed=nearest(device, possible))
    options = StudioOptions(tuple(runs or ()), tuple(recipe or ()), host, port, token, possible[possible.index(device)])
    return serve(options, lambda line: show(line, flush=True))
