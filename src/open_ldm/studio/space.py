"""The page Play alone, for everybody: what `app.py` of a published Space starts."""

from __future__ import annotations

import os
from pathlib import Path

from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.studio.app import Shown, build_app, import_gradio
from open_ldm.studio.device_queue import DeviceQueue
from open_ldm.studio.guard import LOCAL_NAMES
from open_ldm.studio.models import Models
from open_ldm.studio.serve import bound_socket
from open_ldm.studio.trainings import Trainings

_FRAMED_BY = ("https://huggingface.co",)
"""Pages that may show a Space inside themselves."""
_PORT = 7860


def serve_space(model: Path, title: str) -> int:
    """Serve the page until it is stopped. Returns the exit code.

    On the Hub (SPACE_ID is set) it listens at every address, elsewhere at this machine's own alone; GRADIO_SERVER_PORT says
    another port than 7860, 0 any that is free.

    Args:
        model: The folder of the model.
        title: Of the page; the model is called so too.
    """
    models = Models([model], names=[title])
    import_gradio()
    uvicorn = need("uvicorn", extra="studio")
    on_hub = bool(os.environ.get("SPACE_ID"))
    host = "0.0.0.0" if on_hub else "127.0.0.1"
    shown = Shown(("Play",), title, _FRAMED_BY)
    port = os.environ.get("GRADIO_SERVER_PORT") or str(_PORT)
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"GRADIO_SERVER_PORT={port}", needed="a number from 0 to 65535", fix="unset GRADIO_SERVER_PORT")
    hosts = () if on_hub else LOCAL_NAMES  # at home no page of another site may call it by a name of its own
    with bound_socket(host, int(port)) as listening:
        app = build_app(models, Trainings({}), DeviceQueue(), hosts=hosts, shown=shown)
        config = uvicorn.Config(app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=2)
        print(f"{title} at http://{host}:{listening.getsockname()[1]}/", flush=True)
        uvicorn.Server(config).run(sockets=[listening])
    return 0
