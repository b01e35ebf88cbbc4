"""What the training of a diffusion model writes besides: sampled previews, held-out losses, the receipt of a transfer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from open_ldm.core.counted import counted
from open_ldm.core.errors import DataError, NonFiniteError, StoppedError
from open_ldm.core.events import duration
from open_ldm.core.files import write_json
from open_ldm.core.out_of_memory import naming_lack_of_memory
from open_ldm.core.pictures import grid, save_png
from open_ldm.core.slow_steps import SlowSteps
from open_ldm.model.knowledge import Knowledge
from open_ldm.run_folder.history import HELD_OUT
from open_ldm.run_folder.report.on_the_way import ON_THE_WAY
from open_ldm.runs.already_done import is_told
from open_ldm.runs.compiling import SETTLED, Compiling
from open_ldm.runs.held_out import HeldOutPictures
from open_ldm.runs.on_the_way import OnTheWay
from open_ldm.runs.ordering import OrderTold
from open_ldm.runs.preview import captions_of, sample_previews
from open_ldm.runs.reach import Reach
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.recorder import RunRecorder
from open_ldm.sampling.generate import Generator
from open_ldm.sampling.requests import SampleRequest
from open_ldm.text import TextEncoder
from open_ldm.training.loop import Every, Report
from open_ldm.training.trainer import DiffusionTrainer
from open_ldm.transfer_learning.start import Started

_PREVIEW_COLUMNS = 8


@dataclass(kw_only=True)
class DiffusionRecorder(RunRecorder):
    """The recorder of a diffusion model: previews are pictures sampled from the averaged weights."""

    recipe: Recipe
    trainer: DiffusionTrainer
    known: Knowledge
    generator: Generator
    requests: Sequence[SampleRequest]
    text_encoder: TextEncoder | None
    held_out: HeldOutPictures | None = None
    on_the_way: OnTheWay | None = None
    order: OrderTold | None = None
    compiling: Compiling = field(default_factory=Compiling)
    reach: Reach | None = None
    _recompilations: int = 0
    _said_attention: bool = False
    _said_features: bool = False

    @property
    def network(self) -> str:
        """The denoiser's kind."""
        return self.recipe.denoiser.kind

    def knowledge(self) -> Mapping[str, Any]:
        """Return what was learned of the data before training, and what the run settled on."""
        settled = self.compiling.settled
        return self.known.to_json() | ({SETTLED: dict(settled)} if settled else {})

    def say_order(self) -> None:
        """Say in which order samples are read, and of a windowed one how it mixes the classes."""
        if self.order is None:
            return
        if self.order.windowed:
            self.event("order", message=self.order.sentence)
        self.say(self.order.sentence)

    def say_compiled(self) -> None:
        """Say whether blocks are compiled, where that was asked for."""
        if self.compiling.sentence:
            self.event("compile", message=self.compiling.sentence)
            self.say(self.compiling.sentence)

    def while_it_computes(self, report: Report) -> dict[str, float]:
        """Say once how attention is computed, time left and memory, and whenever blocks were compiled again, which they never
        should be; return the share of the device's peak, where that is known."""
        if not self._said_attention and self.trainer.attentions.sentence:
            self._said_attention = True
            self.say(self.trainer.attentions.sentence)
        count = 0 if self.trainer.compiler is None else self.trainer.compiler.recompilations
        if count > self._recompilations:
            self._recompilations = count
            self.warn(f"{count} graphs were compiled again after the first update; training.compile=off avoids the wait")
        if self.reach is None or not self._leads:
            return {}
        rate = report.samples_per_second
        if self.last_loss is None:
            self.say(self.reach.sentence(rate, max(0, self.recipe.training.samples - report.samples_seen)))
        share = self.reach.share(rate)
        return {} if share is None else {"peak_share": round(share, 4)}

    def transferred(self, started: Started) -> None:
        """Show and write the receipt of a run that starts from another, and save: from here on it needs that one no more."""
        self.event("transfer", **started.to_json()["source"], numbers=started.to_json()["numbers"])
        for problem in started.source.problems:
            self.warn(f"checkpoint of {started.source.path} passed over: {problem}")
        self.say(started.text())
        if self._leads:
            write_json(self.folder.transfer, started.to_json())
        self.save()

    def preview(self) -> None:
        """Sample a grid of the same requests every time."""
        started = time.perf_counter()
        asked = (self.recipe, self.known.facts, self.generator, self.requests, self.text_encoder)
        slow = SlowSteps(silent=self.silent, say=self.say)
        try:
            pixels = slow(f"training pauses for a preview of {counted(len(self.requests), 'picture')}", sample_previews, *asked)
        except NonFiniteError as error:
            self.warn(f"no preview was made: {error.problem}")
            return
        path = self.folder.samples / f"{self.samples_seen:012d}.png"
        shown = captions_of(self.requests)
        save_png(path, grid(pixels, _PREVIEW_COLUMNS, captions=shown if any(shown) else None))
        seconds = round(time.perf_counter() - started, 2)
        self.event(self.preview_event, file=path.relative_to(self.folder.path).as_posix(), prompts=shown, seconds=seconds)

    def checks(self) -> Sequence[Every]:
        """Return the loss on held-out pictures, where the recipe wants it."""
        held_out = self.recipe.held_out
        if held_out is None:
            return ()
        return [Every(held_out.every_samples, self._held_out, is_told(HELD_OUT, self.folder, self.trainer))]

    def long_checks(self) -> Sequence[Every]:
        """Return the look at samples, where the recipe wants it."""
        evaluation = self.recipe.evaluation
        if evaluation is None:
            return ()
        return [Every(evaluation.every_samples, self._evaluated, is_told(ON_THE_WAY, self.folder, self.trainer))]

    def _evaluated(self) -> None:
        """Sample from the averaged weights and compare with the training pictures, in the leading process, as previews are."""
        with self.trainer.averaged(here=self._leads):
            self.trainer.world.everyone(self._look_at_samples, "the look at samples")

    def _look_at_samples(self) -> None:
        if (looked := self.on_the_way) is None:
            return
        started = time.perf_counter()
        try:
            if not self._said_features:
                self._said_features = True
                self.say(f"measured on the way by {looked.features.sentence}")
            slow = SlowSteps(silent=self.silent, say=self.say)
            found = slow("training pauses for a look at samples", looked.measure)
        except (DataError, NonFiniteError, StoppedError) as error:
            self.warn(f"samples were not measured: {error.one_line()}")
            return
        seconds = round(time.perf_counter() - started, 2)
        fields = {"pictures": self.recipe.evaluation and self.recipe.evaluation.pictures, "training_pictures": looked.looked_at}
        told = {"features": looked.features.sentence, "against": looked.against}
        self.event(ON_THE_WAY, **asdict(found), **fields, **told, seconds=seconds)
        self.say(
            f"samples: Fréchet distance {found.frechet_distance:.4g}; nearer to a training picture than"
            f" {looked.against}: {found.nearer:.0%} ({duration(seconds)})"
        )

    def _held_out(self) -> None:
        """Measure the averaged weights, on the same pictures, times and noise every time."""
        if self.held_out is None:
            return
        started = time.perf_counter()
        lack = naming_lack_of_memory(
            "while the held-out loss was measured", lambda: "held_out=null, or a smaller denoiser.size"
        )
        with lack, self.trainer.averaged() as model:
            found = self.held_out.loss(model)
        fields: dict[str, Any] = found.to_json() | self.held_out.groups
        self.event(HELD_OUT, **fields, seconds=round(time.perf_counter() - started, 2))
        self.say(f"held out: loss {found.mean.value:.4g} on {counted(found.count, 'picture')}")
