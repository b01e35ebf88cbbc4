"""The network of an exported open-ldm model, as diffusers loads it. Loading it runs the code in the folder `source` beside it.

Copyright: the open-ldm authors. Licence: Apache-2.0, see the file LICENSE.
"""

import importlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file

CONFIG, WEIGHTS, SOURCE = "config.json", "diffusion_pytorch_model.safetensors", "source"
DTYPES = {torch.float32: "float32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class OpenLdmNetwork(torch.nn.Module):
    """Denoiser and conditioning with averaged weights. Parameters stay float32; `torch_dtype` is that of matrix products."""

    def __init__(self, folder: Path, torch_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.settings: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if torch_dtype is not None and torch_dtype not in DTYPES:
            raise ValueError(f"torch_dtype={torch_dtype} is not known; needed: one of {', '.join(map(str, DTYPES))}")
        self.dtype_name = None if torch_dtype is None else DTYPES[torch_dtype]
        package = self.settings["source"]
        load_source(package, folder / SOURCE)
        kind: Any = importlib.import_module(f"{package}.portable.sampler").Sampler
        self.sampler = kind.build(self.settings, load_file(folder / WEIGHTS))
        self.model: torch.nn.Module = self.sampler.model

    @classmethod
    def from_pretrained(
        cls, folder: str, torch_dtype: torch.dtype | None = None, **_: Any
    ) -> "OpenLdmNetwork":  # no annotations module here: diffusers reads the types themselves
        """Load the folder `network` of an exported model."""
        return cls(Path(folder), torch_dtype)

    def save_pretrained(self, folder: str, **_: Any) -> None:
        """Copy the folder; weights do not change in a pipeline."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


def load_source(name: str, folder: Path) -> ModuleType:
    """Import the package of an exported model; its name holds its hash, so that several versions can live side by side."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} holds no package; needed: the folder as it was exported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
