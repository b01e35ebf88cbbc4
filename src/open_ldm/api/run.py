"""A run as an object: where it lies, how far it is, and what can be done with its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_ldm.api.boundary import in_python
from open_ldm.commands import sample as sampling
from open_ldm.commands.samples import Samples
from open_ldm.core.config import read_yaml
from open_ldm.core.device import DeviceName
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import Event
from open_ldm.model.checkpoint import CheckpointFolder, is_checkpoint, run_folder_of, samples_seen_of
from open_ldm.runs.folder import RunFolder
from open_ldm.runs.held_out import EVENT
from open_ldm.runs.history import read_history
from open_ldm.runs.load import LoadedRun
from open_ldm.runs.recipe import Recipe, recipe_from

if TYPE_CHECKING:
    from typing import Unpack

    from open_ldm.api.verbs import Against, EvaluateOptions
    from open_ldm.commands.evaluate.found import Evaluation


@dataclass(frozen=True)
class History:
    """The curves of a run, each list as long as the `samples_seen` beside it; what a resume did again counts once.

    Attributes:
        samples_seen: How many samples had been seen; of a run in stages, over all of them.
        loss: The mean training loss since the record before.
        learning_rate: The learning rate of the last update.
        grad_norm: The mean gradient norm since the record before.
        samples_per_second: The speed since the record before.
        held_out_samples_seen: Where the loss on held-out pictures was measured.
        held_out_loss: That loss.
    """

    samples_seen: list[int]
    loss: list[float]
    learning_rate: list[float]
    grad_norm: list[float]
    samples_per_second: list[float]
    held_out_samples_seen: list[int]
    held_out_loss: list[float]


class Run:
    """A run folder. `train`, `transfer`, `import_weights` and `load_run` give one.

    Nothing is loaded before it is needed; after more training, here or in another process, the newest weights are used.

    Attributes:
        path: The run folder, or the checkpoint inside it that `load_run` was given.
        device: Where its model samples: auto, cpu, cuda or mps.
    """

    def __init__(self, path: str | Path, device: DeviceName = "auto") -> None:
        self.path = Path(path).expanduser()
        self.device: DeviceName = device
        self._loaded: tuple[tuple[str, ...], LoadedRun] | None = None

    @property
    def folder(self) -> Path:
        """The run folder, also where `path` is a checkpoint inside it."""
        return run_folder_of(self.path)

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe, as config.yaml holds it."""
        config = RunFolder(self.folder).config
        return recipe_from(read_yaml(config), (), source=str(config))

    @property
    def samples_seen(self) -> int:
        """How many samples the model has learned from; of a run in stages, over all of them."""
        if is_checkpoint(self.path):
            return samples_seen_of(self.path.name)
        return sum(read_history(part.path).samples_seen for part in RunFolder(self.folder).parts)

    @property
    def report(self) -> Path:
        """The page for people, report.html."""
        return RunFolder(self.folder).report

    @property
    def state(self) -> str:
        """Where the run stands: `finished: all samples seen`, `running`, `preempted: stopped by SIGINT and saved`, ..."""
        state = read_history(self.folder).state
        return f"{state.word}: {state.reason}" if state.reason else state.word

    @property
    def history(self) -> History:
        """Loss and other curves, read anew each time. Empty for imported weights."""
        found = History([], [], [], [], [], [], [])
        before = 0
        for part in RunFolder(self.folder).parts:
            record = read_history(part.path)
            for event in record.named("train"):
                found.samples_seen.append(before + event.samples_seen)
                found.loss.append(_number(event, "loss"))
                found.learning_rate.append(_number(event, "learning_rate"))
                found.grad_norm.append(_number(event, "grad_norm"))
                found.samples_per_second.append(_number(event, "samples_per_second"))
            for event in record.named(EVENT):
                found.held_out_samples_seen.append(before + event.samples_seen)
                found.held_out_loss.append(_number(event, "mean"))
            before += record.samples_seen
        return found

    @in_python
    def sample(
        self,
        prompts: str | Sequence[str] | None = None,
        classes: str | int | Sequence[str | int] | None = None,
        *,
        count: int | None = None,
        seed: int = 0,
        steps: int | None = None,
        solver: str | None = None,
        semantic_scale: float | None = None,
        control_scale: float | None = None,
        negative_prompt: str | None = None,
        sweep: str | None = None,
        progress: bool = True,
        **controls: str | float,
    ) -> Samples:
        """Sample pictures from the averaged weights of the newest good checkpoint.

        Args:
            prompts: A caption or several, for a model of captions.
            classes: Names or numbers of classes, for a model of classes; without any every class, where there are at most 32.
            count: Pictures of each prompt or class, at least 1; 4 by default, and 1 of each variant of a sweep.
            seed: Of the first picture, at least 0; the next has the next seed. The same seed starts from the same noise.
            steps: Solver steps; None takes the recipe's, as for all settings below.
            solver: ddpm, ddim, euler, heun or dpmpp_2m.
            semantic_scale: Guidance towards the prompt or class, at least 0; 1 is none.
            control_scale: Guidance towards the controls, at least 0; 1 is none.
            negative_prompt: What guidance leads away from, in place of no caption.
            sweep: One caption with choices, `"a {red,blue} {circle,square}"`: a table of all variants from the same seeds.
            progress: Show a progress line.
            **controls: Values of the model's control conditions: `size="96x96"`, `crop="0,3"`, `flip=1`, `aspect="4:3"`.

        Returns:
            The pictures, with `pixels`, `images()`, `grid()` and `save()`; a notebook shows their grid.

        Raises:
            OpenLdmError: The run has saved no checkpoint, or its model does not know a prompt, a class, a control or a value.
        """
        options = sampling.SampleOptions(
            prompts=_texts(prompts),
            classes=_texts(classes),
            controls={name: _text(value) for name, value in controls.items()},
            count=(4 if sweep is None else 1) if count is None else count,
            seed=seed,
            sweep=sweep,
            negative_prompt=negative_prompt,
            steps=steps,
            solver=solver,
            semantic_scale=semantic_scale,
            control_scale=control_scale,
        )
        return sampling.sample(self._load(), options, silent=not progress)

    def evaluate(self, against: Against = None, **options: Unpack[EvaluateOptions]) -> Evaluation:
        """Measure the run, as `open_ldm.evaluate(run, against, ...)` does.

        Args:
            against: Data to measure against; None is the run's own.
            **options: As `open_ldm.evaluate` describes them.

        Returns:
            The results; printed, they are a table.

        Raises:
            OpenLdmError: Nothing could be measured, or an option does not fit.
        """
        from open_ldm.api.verbs import evaluate

        return evaluate(self, against, **options)

    def _load(self) -> LoadedRun:
        """Return the model, loaded anew when another checkpoint has been saved since."""
        names = tuple(f"{part.path}/{name}" for part in RunFolder(self.folder).parts for name in _names(part))
        if self._loaded is None or self._loaded[0] != names:
            self._loaded = names, sampling.open_run(self.path, self.device)
        return self._loaded[1]

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.samples_seen:,} samples seen, {self.state}>"


@in_python
def load_run(path: str | Path, device: DeviceName = "auto") -> Run:
    """Open a run, finished or not.

    Args:
        path: A run folder, or one checkpoint inside it (`runs/a/checkpoints/samples-...`).
        device: Where its model samples: auto, cpu, cuda or mps.

    Returns:
        The run; its weights are loaded when it samples first.

    Raises:
        OpenLdmError: There is no run in that place.
    """
    run = Run(path, device)
    folder = RunFolder(run.folder)
    if not folder.config.is_file() or (run.folder / "autoencoder").is_dir() or not run.path.is_dir():
        raise ConfigError(f"no run of a diffusion model in {run.path}", needed="a folder that train made", fix="check the path")
    return run


def _names(part: RunFolder) -> list[str]:
    return list(CheckpointFolder(part.checkpoints).names())


def _number(event: Event, name: str) -> float:
    value = event.number(name)
    return float("nan") if value is None else value


def _texts(given: str | int | Sequence[str | int] | None) -> tuple[str, ...]:
    """One or several as a tuple of texts; nothing as an empty one."""
    if given is None:
        return ()
    return tuple(map(str, given)) if isinstance(given, Sequence) and not isinstance(given, str) else (str(given),)


def _text(value: Any) -> str:
    """A control's value as it is typed: 1 for True."""
    return str(int(value)) if isinstance(value, bool) else str(value)
