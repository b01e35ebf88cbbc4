"""From a recipe to its parts: data set, what the model must know of it, latent statistics, trainer, generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.autoencoders import Autoencoder, LatentStats, MeasuredStats, Posterior, build_autoencoder
from open_ldm.autoencoders.latent_stats import given, measure
from open_ldm.autoencoders.pretrained import Pretrained
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls import ViewShape
from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.core.errors import CheckpointError, ConfigError, DataError, shortened
from open_ldm.core.pictures import to_images
from open_ldm.data.loader import default_workers, read_batches
from open_ldm.data.sample import Batch, Source
from open_ldm.data.survey import DataSurvey
from open_ldm.encoded.batch import LiveEncoder
from open_ldm.model.diffusion import DiffusionModel, build_model
from open_ldm.model.noising import Drawer
from open_ldm.model.spec import DataFacts
from open_ldm.runs.recipe import Recipe
from open_ldm.sampling.generate import Generator
from open_ldm.text import HuggingFaceEncoder, TextEncoder, Vocabulary, WordsConfig, WordsEncoder
from open_ldm.text.remembered import RememberingEncoder
from open_ldm.training.trainer import Trainer

_MEASURED_AT_ONCE = 64
_REMEMBERED_BYTES = 1 << 29


@dataclass(frozen=True)
class Knowledge:
    """What a run learned of its data before training and keeps in every checkpoint."""

    facts: DataFacts
    stats: LatentStats


def facts_of(recipe: Recipe, source: Source, survey: DataSurvey) -> DataFacts:
    """What the model must know of the data. Raises ConfigError when the recipe asks for labels or captions it lacks."""
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
    view = ViewShape(recipe.data.transform.height_px, recipe.data.transform.width_px, round(survey.short_side_px.median))
    channels, *latent_size = recipe.latent_shape
    return DataFacts(channels, view, names, words, latent_size=(latent_size[0], latent_size[1]))


def latent_stats_of(
    recipe: Recipe,
    source: Source,
    autoencoder: Autoencoder,
    machine: Machine,
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> LatentStats:
    """The recipe's latent statistics: given, or measured on the first views training will see.

    `on_batch` is told every batch that is measured.
    """
    if not isinstance(recipe.latent_stats, MeasuredStats):
        return given(recipe.latent_stats, autoencoder.channels)
    batches = read_live(recipe, source, measured_ranges(recipe.latent_stats))

    def posterior(batch: Batch) -> Posterior:
        on_batch(batch)
        return autoencoder.encode(to_images(batch.pixels.to(machine.device)))

    return measure(map(posterior, batches))


def measured_ranges(config: MeasuredStats) -> list[range]:
    """Positions of the views that latent statistics are measured on."""
    starts = range(0, config.pictures, _MEASURED_AT_ONCE)
    return [range(start, min(start + _MEASURED_AT_ONCE, config.pictures)) for start in starts]


def read_live(recipe: Recipe, source: Source, position_ranges: Iterable[Sequence[int]]) -> Iterator[Batch]:
    """The recipe's views at these positions, from their pictures."""
    return read_batches(
        source,
        recipe.data.transform,
        seed=recipe.training.seed,
        position_ranges=position_ranges,
        workers=workers_of(recipe),
        views=recipe.data.views,
    )


def workers_of(recipe: Recipe) -> int:
    """The recipe's number of reading processes, or the machine's default."""
    return default_workers() if recipe.data.workers is None else recipe.data.workers


def model_of(recipe: Recipe, facts: DataFacts) -> DiffusionModel:
    """The recipe's model, freshly initialised from its seed."""
    return build_model(recipe.model_spec(facts), recipe.training.seed)


def trainer_of(recipe: Recipe, known: Knowledge, machine: Machine, world: World) -> Trainer:
    """A trainer at position 0."""
    model = model_of(recipe, known.facts).to(machine.device).compute_in(machine.compute_dtype)
    drawer = Drawer(
        seed=recipe.training.seed,
        batch_size=recipe.training.batch_size,
        stats=known.stats,
        conditioning=recipe.conditioning,
        time_density=recipe.objective.times,
        discrete_steps=model.schedule.discrete_steps,
        device=machine.device,
    )
    return Trainer(model, drawer, recipe.objective, recipe.training, world)


@dataclass(frozen=True)
class Encoders:
    """What turns pictures and captions into what training reads. `text`: None when the model reads no captions."""

    autoencoder: Autoencoder
    text: TextEncoder | None
    machine: Machine


def encoders_of(recipe: Recipe, source: Source, facts: DataFacts, machine: Machine) -> Encoders:
    """The recipe's encoders, loaded. Raises ConfigError or CheckpointError when they are not those the recipe describes."""
    text = text_encoder_of(recipe, facts, machine)
    return Encoders(
        autoencoder_of(recipe, facts, machine), None if text is None else remembering(text, recipe, source), machine
    )


def text_encoder_of(recipe: Recipe, facts: DataFacts, machine: Machine) -> TextEncoder | None:
    """The recipe's text encoder, loaded; None when the model reads no captions.

    Frozen encoders run in float32 on CPUs, where short captions gain nothing from bf16, else in the machine's compute dtype.
    Raises CheckpointError when it is not the one that the model was trained with.
    """
    semantic = recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic):
        return None
    encoder: TextEncoder
    if isinstance(semantic.encoder, WordsConfig):
        encoder = WordsEncoder(Vocabulary(facts.words), semantic.encoder.length)
    else:
        dtype = torch.float32 if machine.device.type == "cpu" else machine.compute_dtype
        encoder = HuggingFaceEncoder(semantic.encoder, machine.device, dtype)
    if facts.text_encoder and facts.text_encoder != encoder.fingerprint:
        raise CheckpointError(
            f"the text encoder has fingerprint {encoder.fingerprint}",
            needed=f"the one this model was trained with, {facts.text_encoder}",
            fix="put its files back in their place",
        )
    return encoder


def libraries_of(recipe: Recipe) -> tuple[str, ...]:
    """Libraries besides torch whose version may change the numbers of training."""
    semantic = recipe.conditioning.semantic
    frozen = isinstance(semantic, TextSemantic) and not isinstance(semantic.encoder, WordsConfig)
    return ("transformers",) if frozen else ()


def remembering(encoder: TextEncoder, recipe: Recipe, source: Source) -> TextEncoder:
    """The encoder made to read each caption of a data set once, when the tokens of all of them fit in half a gigabyte."""
    semantic = recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic) or isinstance(semantic.encoder, WordsConfig):
        return encoder
    most = _REMEMBERED_BYTES // (4 * semantic.encoder.length * semantic.encoder.width)
    return RememberingEncoder(encoder) if len(set(source.captions())) <= most else encoder


def encoder_of(
    recipe: Recipe,
    facts: DataFacts,
    source: Source,
    encoders: Encoders,
) -> LiveEncoder:
    """Batch -> EncodedBatch for this recipe. Raises DataError when the data now has classes the model does not know."""
    order = label_order_of(recipe, facts, source)
    return LiveEncoder(encoders.autoencoder, recipe.conditioning.controls, encoders.machine.device, encoders.text, order)


def label_order_of(recipe: Recipe, facts: DataFacts, source: Source) -> Tensor | None:
    """The model's label of each of the source's classes, None when it reads none. Raises DataError for unknown classes."""
    return _label_order(facts, source) if isinstance(recipe.conditioning.semantic, ClassSemantic) else None


def _label_order(facts: DataFacts, source: Source) -> Tensor:
    """The model's label of each of the source's classes: folders added or removed since it started must not shift them."""
    unknown = [name for name in source.class_names if name not in facts.class_names]
    if unknown:
        raise DataError(
            f"the data has classes this run was not started with: {shortened(unknown)}",
            needed=f"the classes {shortened(facts.class_names)}",
            fix="remove them, or start another run with another --out",
        )
    return torch.tensor([facts.class_names.index(name) for name in source.class_names], dtype=torch.long)


def generator_of(recipe: Recipe, known: Knowledge, model: DiffusionModel, autoencoder: Autoencoder) -> Generator:
    """Draws pictures of the recipe's size."""
    return Generator(model, autoencoder, known.stats, recipe.latent_shape[1:])


def autoencoder_of(recipe: Recipe, facts: DataFacts | None, machine: Machine) -> Autoencoder:
    """The recipe's autoencoder, loaded; `facts`: of the model that reads its latents, if there is one yet.

    Raises CheckpointError when it encodes otherwise than the one that the model was trained with. Another decoder is allowed.
    Raises ConfigError when it reads another number of channels than the pictures have.
    """
    autoencoder = build_autoencoder(recipe.autoencoder, machine.device)
    if isinstance(autoencoder, Pretrained) and not recipe.data.suits(autoencoder.picture_channels):
        have, reads = recipe.data.channels, autoencoder.picture_channels
        raise ConfigError(
            f"pictures of {have} channels for an autoencoder of {reads}",
            needed=f"an autoencoder trained on {have} channels, or pictures of {reads}",
            fix=f"ldm autoencoder train with network.in_channels={have}, or data.source.channels={reads}",
        )
    if facts is not None and facts.autoencoder and facts.autoencoder != autoencoder.fingerprint:
        raise CheckpointError(
            f"the autoencoder's encoder has fingerprint {autoencoder.fingerprint[:16]}",
            needed=f"the one this model was trained with, {facts.autoencoder[:16]}",
            fix="put its files back in their place",
        )
    return autoencoder
