"""From a recipe to its parts: what the model must know of the data, latent statistics, trainer, encoders, generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from open_ldm.autoencoders import Autoencoder, LatentStats, MeasuredStats, Posterior, latent_shape
from open_ldm.autoencoders.latent_stats import given, measure
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls.data import (
    columns_of_controls,
    describe_views,
    measures_of,
    require_known_categories,
    standardised_as,
)
from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.core.out_of_memory import naming_lack_of_memory
from open_ldm.core.pictures import to_images
from open_ldm.data.order import Order
from open_ldm.data.sample import Batch, Source
from open_ldm.data.survey import DataSurvey
from open_ldm.model.diffusion import DiffusionModel, build_model
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.noising import Noising
from open_ldm.model.spec import DataFacts
from open_ldm.runs.cached_source import require_data_for_facts
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.shapes import sampled_shapes
from open_ldm.sampling.generate import Generator
from open_ldm.sources.loader import default_workers, read_batches
from open_ldm.text import Vocabulary, WordsConfig
from open_ldm.training.trainer import DiffusionTrainer

_MEASURED_AT_ONCE, _MEASURED_OF_A_BATCH = 64, 16


def read_facts(
    recipe: Recipe,
    source: Source,
    survey: DataSurvey,
    before: DataFacts | None = None,
    start: DataFacts | None = None,
) -> DataFacts:
    """Read what the model must know of the data; of a model of words, every caption is read for its vocabulary.

    Args:
        recipe: Says what the model is conditioned on.
        source: The data set, opened.
        survey: Of the same data, with what the controls measure: gives the typical picture.
        before: Of a run that goes on, which keeps what it knew: new pictures must not move its vocabulary or its columns.
        start: Of the model that a new run starts from: numbers of metadata are standardised as there.

    Returns:
        Facts without the fingerprints of the encoders, which are not loaded here.

    Raises:
        ConfigError: The recipe asks for labels that the data lack, or a control cannot be learned from them.
        DataError: The data of a run that goes on have categories by now that it does not know.
    """
    controls = recipe.conditioning.controls
    if before is not None:
        require_known_categories(controls, before.view, source)
        return before
    require_data_for_facts(recipe, source)
    semantic = recipe.conditioning.semantic
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    if isinstance(semantic, ClassSemantic):
        names = source.class_names
        if not names:
            raise ConfigError(
                f"the data has no classes ({survey.sentence})",
                needed="class folders, or a label column in metadata.jsonl",
                fix="add labels, or use conditioning.semantic.kind=none (or text, with captions)",
            )
    if isinstance(semantic, TextSemantic) and isinstance(semantic.encoder, WordsConfig):
        words = Vocabulary.from_captions(source.captions(), semantic.encoder).words
    view = describe_views(controls, source, survey, recipe.transform)
    view = view if start is None else standardised_as(view, start.view)
    channels, *latent_size = recipe.latent_shape
    return DataFacts(channels, view, names, words, latent_size=(latent_size[0], latent_size[1]))


def measure_latent_stats(
    recipe: Recipe,
    source: Source,
    autoencoder: Autoencoder,
    machine: Machine,
    order: Order,
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> LatentStats:
    """Measure mean and deviation of the raw latents on the first views that training will see, or take those that are given.

    Args:
        recipe: Gives the statistics, or says on how many pictures they are measured.
        source: The data set.
        autoencoder: Encodes the views.
        machine: Where it runs.
        order: Of the training.
        on_batch: Called with every batch before it is encoded.

    Returns:
        Mean and standard deviation of each latent channel.
    """
    if not isinstance(recipe.latent_stats, MeasuredStats):
        return given(recipe.latent_stats, autoencoder.channels)
    batches = read_live(recipe, source, order, measured_ranges(recipe, recipe.latent_stats))

    def posterior(batch: Batch) -> Posterior:
        """Encode a batch."""
        on_batch(batch)
        with naming_lack_of_memory("while latents were measured", lambda: "training.device=cpu, or a smaller size_px"):
            return autoencoder.encode(to_images(batch.pixels.to(machine.device)))

    return measure(map(posterior, batches))


def measured_ranges(recipe: Recipe, config: MeasuredStats) -> list[range]:
    """Positions of the views that latent statistics are measured on, cut into batches.

    In buckets they are the first few of each of many global batches: a batch has one shape, and the statistics are for all.
    """
    pictures, batch = config.pictures, recipe.training.batch_size
    if recipe.data.transform.buckets is None:
        return [range(start, min(start + _MEASURED_AT_ONCE, pictures)) for start in range(0, pictures, _MEASURED_AT_ONCE)]
    few = min(batch, _MEASURED_OF_A_BATCH)
    return [range(batch * number, batch * number + few) for number in range(-(-pictures // few))]


def read_live(recipe: Recipe, source: Source, order: Order, position_ranges: Iterable[Sequence[int]]) -> Iterator[Batch]:
    """Read the recipe's views at these positions of an order from their pictures, one batch for each range."""
    return read_batches(
        source,
        recipe.transform,
        order=order,
        seed=recipe.training.seed,
        position_ranges=position_ranges,
        workers=workers_of(recipe),
        views=recipe.data.views,
        measures=measures_of(recipe.conditioning.controls),
        columns=columns_of_controls(recipe.conditioning.controls),
    )


def workers_of(recipe: Recipe) -> int:
    """The recipe's number of reading processes, or the machine's default."""
    return default_workers() if recipe.data.workers is None else recipe.data.workers


def build_trainer(
    recipe: Recipe, known: Knowledge, machine: Machine, world: World, *, counted_padding: bool = False
) -> DiffusionTrainer:
    """Build the recipe's trainer: initial weights, no sample seen.

    Args:
        recipe: Says what is trained and how.
        known: What was learned of the data.
        machine: Where the model is put.
        world: The processes that train together.
        counted_padding: As `Noising`.

    Returns:
        A trainer whose weights are a function of `recipe.training.seed` alone.
    """
    model = build_model(recipe.trained_spec(known.facts), recipe.training.seed)
    model = model.to(machine.device).compute_in(machine.compute_dtype)
    noising = Noising(
        seed=recipe.training.seed,
        batch_size=recipe.training.batch_size,
        stats=known.stats,
        conditioning=recipe.conditioning,
        time_density=recipe.objective.times,
        discrete_steps=model.schedule.discrete_steps,
        device=machine.device,
        counted_padding=counted_padding,
        keeps_mean=recipe.objective.alignment is not None,
    )
    return DiffusionTrainer(model, noising, recipe.objective, recipe.training, world, recipe.parallel)


def build_generator(
    recipe: Recipe, known: Knowledge, model: DiffusionModel, autoencoder: Autoencoder, machine: Machine
) -> Generator:
    """Build what samples pictures of the recipe's usual size from a model on a machine's device, which may get values later."""
    size = latent_shape(recipe.autoencoder, *sampled_shapes(recipe.transform)[0])[1:]
    return Generator(model, autoencoder, known.stats, size, machine.device)
