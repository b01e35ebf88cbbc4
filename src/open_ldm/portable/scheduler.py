"""How an exported open-ldm model samples, as diffusers loads it: a table of settings, which `pipeline.py` reads.

Copyright: the open-ldm authors. Licence: Apache-2.0, see the file LICENSE.
"""

import json
from pathlib import Path
from typing import Any

CONFIG = "scheduler_config.json"


class OpenLdmScheduler:
    """Settings of the solver, such as `pipe.scheduler.settings["solver"] = "ddim"`; null takes those of the training."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @classmethod
    def from_pretrained(cls, folder: str, **_: Any) -> "OpenLdmScheduler":
        """Load the folder `scheduler` of an exported model."""
        return cls(json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))["settings"])

    def save_pretrained(self, folder: str, **_: Any) -> None:
        """Write the settings."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / CONFIG).write_text(json.dumps({"settings": self.settings}, indent=2) + "\n", encoding="utf-8")
