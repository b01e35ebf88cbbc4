"""The frozen text models of an exported open-ldm model, as diffusers loads them: folders of transformers, one or several.

Copyright: the open-ldm authors. Licence: Apache-2.0, see the file LICENSE.
"""

import shutil
from pathlib import Path
from typing import Any


class OpenLdmTextEncoder:
    """The folders model-0, model-1, ...; the network's own code loads them where it is put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = [str(one) for one in sorted(folder.glob("model-*"))]
        self._loaded: tuple[str, Any] | None = None

    def on(self, sampler: Any) -> Any:
        """Load the models where a network is, once."""
        where = str(next(sampler.model.parameters()).device)
        if self._loaded is None or self._loaded[0] != where:
            self._loaded = where, sampler.load_text(self.models)
        return self._loaded[1]

    @classmethod
    def from_pretrained(cls, folder: str, **_: Any) -> "OpenLdmTextEncoder":
        """Load the folder `text_encoder` of an exported model."""
        return cls(Path(folder))

    def save_pretrained(self, folder: str, **_: Any) -> None:
        """Copy the folder."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
