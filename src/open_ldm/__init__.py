"""Train latent diffusion models from scratch on your own pictures.

    import open_ldm as ldm

    run = ldm.train("photos-dit", "data.source.path=pictures", out="runs/a")
    run.sample(classes=["ship"], size="96x96").grid()

The names below are loaded when they are first used, so that the import itself takes milliseconds and does not load torch.
"""

__version__ = "0.1.0"

from open_ldm.core.waiting import wait_briefly as _wait_briefly

_wait_briefly()  # before torch is loaded

TYPE_CHECKING = False  # type checkers take it for true by its name; typing itself costs more time than all else here

if TYPE_CHECKING:
    from open_ldm.api.recipes import load_recipe
    from open_ldm.api.run import Run, evaluate, load_run
    from open_ldm.api.samples import Samples
    from open_ldm.api.verbs import encode, import_weights, survey, train, transfer
    from open_ldm.core.errors import OpenLdmError

_HOMES = {
    "OpenLdmError": "core.errors",
    "Run": "api.run",
    "Samples": "api.samples",
    "encode": "api.verbs",
    "evaluate": "api.run",
    "import_weights": "api.verbs",
    "load_recipe": "api.recipes",
    "load_run": "api.run",
    "survey": "api.verbs",
    "train": "api.verbs",
    "transfer": "api.verbs",
}
"""In which module each public name is defined."""

__all__ = [
    "OpenLdmError",
    "Run",
    "Samples",
    "__version__",
    "encode",
    "evaluate",
    "import_weights",
    "load_recipe",
    "load_run",
    "survey",
    "train",
    "transfer",
]

if not TYPE_CHECKING:  # a type checker reads the imports above, and still knows a wrong name when it sees one

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
