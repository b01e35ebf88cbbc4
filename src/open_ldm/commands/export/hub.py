"""Pushing an exported folder to the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.core.extras import need

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class HubError(OpenLdmError):
    """The Hub refused, or could not be reached."""

    exit_code = 74


def check_hub_name(name: str | None) -> str:
    """Return the name of a model on the Hub. Raises ConfigError for anything else than OWNER/NAME."""
    if name is None or not _NAME.fullmatch(name):
        given = "no name" if name is None else repr(name)
        raise ConfigError(f"{given} was given for the Hub", needed="OWNER/NAME", fix="ldm export RUN OWNER/NAME --to hub")
    return name


def push(folder: Path, name: str, *, public: bool = False) -> str:
    """Upload an exported folder as a model of the Hub, by the login and the endpoint (HF_ENDPOINT) of huggingface_hub.

    Args:
        folder: An exported folder.
        name: OWNER/NAME; the model is made where there is none, and a newer version of it where there is one.
        public: A model that is made is visible to everyone; by default to its owner alone.

    Returns:
        Its address.

    Raises:
        HubError: The Hub refused, or could not be reached; the folder stays as it is.
    """
    hub = need("huggingface_hub", extra="text")
    try:
        api = hub.HfApi()
        made = api.create_repo(name, private=not public, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=str(folder), commit_message="Exported by open-ldm")
    except Exception as error:  # huggingface_hub raises its own, those of its HTTP library, and OSError
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HubError(f"{name} could not be pushed ({said[:120]})", fix=f"hf auth login; the folder is {folder}") from error
    return str(made)
