"""The frozen encoders of a run: autoencoder and text encoder, loaded, checked, and put to use."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from open_ldm.autoencoders import Autoencoder, build_autoencoder
from open_ldm.autoencoders.pretrained import Pretrained
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls.data import fit_controls
from open_ldm.core.device import Machine
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.data.sample import Source
from open_ldm.data.survey import ALL_CAPTIONS_OF
from open_ldm.encoded.batch import LiveEncoder
from open_ldm.encoded.labels import order_labels
from open_ldm.model.spec import DataFacts
from open_ldm.runs.recipe import Recipe
from open_ldm.text import HuggingFaceEncoder, TextEncoder, Vocabulary, WordsConfig, WordsEncoder
from open_ldm.text.remembered import RememberingEncoder

_REMEMBERED_BYTES = 1 << 29


@dataclass(frozen=True)
class Encoders:
    """What turns pictures and captions into what training reads, on one machine; `text` is None without captions."""

    autoencoder: Autoencoder
    text: TextEncoder | None
    machine: Machine

    def sign(self, facts: DataFacts) -> DataFacts:
        """Return the facts with the fingerprints of these encoders."""
        text = facts.text_encoder if self.text is None else self.text.fingerprint
        return replace(facts, autoencoder=self.autoencoder.fingerprint, text_encoder=text)


def load_encoders(recipe: Recipe, source: Source, facts: DataFacts, machine: Machine) -> Encoders:
    """Load the recipe's autoencoder and text encoder; the errors are those of `load_autoencoder` and `load_text_encoder`."""
    text = load_text_encoder(recipe, facts, machine)
    return Encoders(
        load_autoencoder(recipe, facts, machine), None if text is None else remember_tokens(text, recipe, source), machine
    )


def load_text_encoder(recipe: Recipe, facts: DataFacts, machine: Machine) -> TextEncoder | None:
    """Load the recipe's text encoder.

    Frozen encoders run in bf16 where the machine computes in it, and in float32 on CPUs, where short captions gain nothing from
    bf16, and where it computes in fp16, which T5 overflows.

    Args:
        recipe: Names the encoder.
        facts: Of the model: its vocabulary, and the fingerprint of the encoder it was trained with, if that is known yet.
        machine: Where the encoder runs.

    Returns:
        The encoder; None when the model reads no captions.

    Raises:
        CheckpointError: It is not the encoder that the model was trained with.
    """
    semantic = recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic):
        return None
    encoder: TextEncoder
    if isinstance(semantic.encoder, WordsConfig):
        encoder = WordsEncoder(Vocabulary(facts.words), semantic.encoder.length)
    else:
        fast = machine.device.type != "cpu" and machine.compute_dtype == torch.bfloat16
        dtype = torch.bfloat16 if fast else torch.float32
        encoder = HuggingFaceEncoder(semantic.encoder, machine.device, dtype)
    if facts.text_encoder and facts.text_encoder != encoder.fingerprint:
        raise CheckpointError(
            f"the text encoder has fingerprint {encoder.fingerprint}",
            needed=f"the one this model was trained with, {facts.text_encoder}",
            fix="restore the files it was trained with",
        )
    return encoder


def libraries_of(recipe: Recipe) -> tuple[str, ...]:
    """Names of the libraries besides torch whose version may change the numbers of training."""
    semantic = recipe.conditioning.semantic
    frozen = isinstance(semantic, TextSemantic) and not isinstance(semantic.encoder, WordsConfig)
    return ("transformers",) if frozen else ()


def remember_tokens(encoder: TextEncoder, recipe: Recipe, source: Source) -> TextEncoder:
    """Make an encoder encode each caption of a data set once, when the tokens of all captions fit in half a gigabyte.

    Those of more than a million samples are not counted, and not kept.

    An encoder that is a table of words is returned as it is.
    """
    semantic = recipe.conditioning.semantic
    if not isinstance(semantic, TextSemantic) or isinstance(semantic.encoder, WordsConfig):
        return encoder
    most = _REMEMBERED_BYTES // (4 * semantic.encoder.length * semantic.encoder.width)
    if len(source) > ALL_CAPTIONS_OF or len(set(source.captions())) > most:
        return encoder
    return RememberingEncoder(encoder)


def build_encoder(
    recipe: Recipe,
    facts: DataFacts,
    source: Source,
    encoders: Encoders,
) -> LiveEncoder:
    """Build what makes an EncodedBatch of a batch of pictures.

    Raises:
        DataError: The data have classes by now that the model does not know.
    """
    order = find_label_order(recipe, facts, source)
    controls = fit_controls(recipe.conditioning.controls, facts.view)
    return LiveEncoder(encoders.autoencoder, controls, encoders.machine.device, encoders.text, order)


def find_label_order(recipe: Recipe, facts: DataFacts, source: Source) -> Tensor | None:
    """Find the model's labels of the data set's classes; None for a model that reads none. Errors as `order_labels`."""
    if not isinstance(recipe.conditioning.semantic, ClassSemantic):
        return None
    return order_labels(facts.class_names, source.class_names)


def load_autoencoder(recipe: Recipe, facts: DataFacts | None, machine: Machine) -> Autoencoder:
    """Load the recipe's autoencoder.

    Args:
        recipe: Names the autoencoder.
        facts: Of the model that reads its latents; None where there is no model yet.
        machine: Where it runs.

    Returns:
        The autoencoder, frozen.

    Raises:
        CheckpointError: Its encoder is not the one that the model was trained with; another decoder is allowed.
        ConfigError: It reads another number of channels than the pictures have.
    """
    autoencoder = build_autoencoder(recipe.autoencoder, machine.device)
    if isinstance(autoencoder, Pretrained) and not recipe.data.suits(autoencoder.picture_channels):
        have, reads = recipe.data.channels, autoencoder.picture_channels
        raise ConfigError(
            f"the pictures have {have} channels, the autoencoder reads {reads}",
            needed=f"an autoencoder trained on {have} channels, or pictures of {reads}",
            fix=f"ldm autoencoder train with network.in_channels={have}, or data.source.channels={reads}",
        )
    if facts is not None and facts.autoencoder and facts.autoencoder != autoencoder.fingerprint:
        raise CheckpointError(
            f"the autoencoder's encoder has fingerprint {autoencoder.fingerprint[:16]}",
            needed=f"the one this model was trained with, {facts.autoencoder[:16]}",
            fix="restore the files it was trained with",
        )
    return autoencoder
