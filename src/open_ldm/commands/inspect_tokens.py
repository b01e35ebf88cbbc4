"""`ldm inspect tokens`: attention and gradient on the tokens and the padding of captions, as one plot per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_ldm.checkpoints.names import run_folder_of
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.controls.data import columns_of_controls, fit_controls, measures_of
from open_ldm.core.errors import ConfigError
from open_ldm.core.files import write_json
from open_ldm.encoded.batch import LiveEncoder
from open_ldm.evaluation.token_influence import TokenInfluence, token_influence
from open_ldm.model.noising import Noising, ObjectiveInputs
from open_ldm.pages.charts import Format, Plot, Series
from open_ldm.pages.figures import save_figure
from open_ldm.process.time_density import UniformTimes
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.sources.loader import open_data, read_batches

HEADER = ["run", "padding", "padded positions", "attention on tokens", "on padding", "gradient on padding"]
_SEED = 0


@dataclass(frozen=True)
class InspectedTokens:
    """The token influence of one run, and where it was written."""

    run: Path
    padding: str
    plot: Path
    influence: TokenInfluence
    problems: tuple[str, ...]

    def row(self) -> list[str]:
        """For a table under `HEADER`."""
        found = self.influence
        shares = (found.padding_places, found.attention_tokens, found.attention_padding, found.gradient_padding)
        return [self.run.name, self.padding, *(f"{100 * share:.1f} %" for share in shares)]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"run": str(self.run), "padding": self.padding, "plot": str(self.plot), **self.influence.to_json()}


def inspect_tokens(path: Path, pictures: int, figure_format: Format = "svg") -> InspectedTokens:
    """Measure a run on `pictures` of its data, held-out ones if there are, and write inspect/tokens.svg (or another
    `figure_format`) and tokens.json there.

    Runs that differ in their padding alone are measured on the same pictures, noise and times. Raises ConfigError for a
    model without captions.
    """
    run = load_run(path)
    semantic = run.recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic):
        raise ConfigError(f"{path} was not trained with captions", needed="a run with conditioning.semantic.kind=text")
    influence = token_influence(run.model, _noised(run, pictures))
    folder = run_folder_of(path) / "inspect"
    found = InspectedTokens(path, semantic.padding, folder / f"tokens.{figure_format}", influence, run.problems)
    save_figure(found.plot, *_plots(semantic.padding, influence))
    write_json(folder / "tokens.json", {"samples_seen": run.samples_seen, **found.to_json()})
    return found


def _noised(run: LoadedRun, pictures: int) -> ObjectiveInputs:
    """Noise pictures with their captions, no condition dropped, in the same way for every run."""
    recipe = run.recipe
    source = open_data(recipe.data, "train" if recipe.data.holdout is None else "held_out")
    wanted = range(min(pictures, len(source)))
    controls = recipe.conditioning.controls
    batches = read_batches(
        source,
        run.transform,
        seed=_SEED,
        position_ranges=[wanted],
        workers=0,
        measures=measures_of(controls),
        columns=columns_of_controls(controls),
    )
    batch, fitted = next(batches), fit_controls(controls, run.known.facts.view)
    encoder = LiveEncoder(run.generator.autoencoder, fitted, run.machine.device, run.text_encoder)
    noising = Noising(
        seed=_SEED,
        batch_size=len(wanted),
        stats=run.known.stats,
        conditioning=recipe.conditioning.model_copy(update={"semantic_drop": 0.0, "control_drop": 0.0}),
        time_density=UniformTimes(),
        discrete_steps=run.model.schedule.discrete_steps,
        device=run.machine.device,
    )
    return noising.draw(encoder.encode(batch))


def _plots(padding: str, found: TokenInfluence) -> Sequence[Plot]:
    """Attention above, gradient below, over the positions of the sequence."""
    x = list(range(1, len(found.attention.token) + 1))
    shared = Plot("", "position in the sequence", "", (), from_zero=True)

    def series(values: Any, padding_share: float) -> list[Series]:
        named = f"padding: {padding} ({100 * padding_share:.0f} % in all)"
        shown = {"tokens of the caption": values.token, named: values.padding}
        return [Series(name, x, [100 * share for share in shares]) for name, shares in shown.items()]

    return [
        replace(
            shared,
            title=f"Attention of image tokens to the positions of a caption, padding {padding}",
            y_title="share of attention, %",
            series=series(found.attention, found.attention_padding),
        ),
        replace(
            shared,
            title=f"Gradient of the loss at the positions of a caption, padding {padding}",
            y_title="share of gradient norm, %",
            series=series(found.gradient, found.gradient_padding),
        ),
    ]
