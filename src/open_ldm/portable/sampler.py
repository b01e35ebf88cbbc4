"""Sampling from a model of which only settings and weights are there: no recipe, no run folder, no data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pydantic import Field
from torch import Tensor, device

from open_ldm.autoencoders import Autoencoder, AutoencoderConfig, IdentityConfig, latent_shape
from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.autoencoders.pretrained import Pretrained
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.core.config import Config, validate
from open_ldm.core.device import DtypeName, choose_device, products_of
from open_ldm.core.display import as_shown
from open_ldm.core.errors import ConfigError
from open_ldm.core.option_words import options_as_arguments
from open_ldm.core.pictures import to_picture, to_pixels
from open_ldm.data.bucket_shapes import Shape, listed, require_trained
from open_ldm.denoisers import DenoiserConfig
from open_ldm.model.diffusion import DiffusionModel, build_model
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.spec import ModelSpec, ProcessConfig
from open_ldm.sampling.checks import PIPELINE, Asked
from open_ldm.sampling.generate import Generator, SamplingConfig, changed_settings
from open_ldm.sampling.requests import SampleRequest, build_inputs, class_at, control_texts, label_of
from open_ldm.text import HuggingFaceEncoder, TextEncoder, Vocabulary, WordsConfig, WordsEncoder


class PortableConfig(Config):
    """The settings of a recipe that sampling needs; names and meanings are those of the recipe.

    Attributes:
        shapes: (height, width) in px of the pictures that the model was trained on, the usual one first.
    """

    process: ProcessConfig
    conditioning: ConditioningConfig
    denoiser: DenoiserConfig
    autoencoder: AutoencoderConfig
    sampling: SamplingConfig
    shapes: tuple[Shape, ...] = Field(min_length=1)
    display: tuple[int, int, int] | None = None
    dtype: DtypeName = "auto"


_ARGUMENTS = {
    r"^ldm sample: ": "",
    r"\bguidance\.semantic_scale\b": "guidance_scale",
    r"\bguidance\.control_scale\b": "control_scale",
    r"(?<![\w.])steps=": "num_inference_steps=",
}
"""Words of settings in errors, and the arguments of the pipeline that are meant."""
_OPTIONS = {"class-index": "class_labels", "class": "class_labels"}
"""Arguments that are called otherwise than their options."""


@contextmanager
def _naming_arguments() -> Iterator[None]:
    """Put a ConfigError into the words of the pipeline's arguments."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(
            _as_arguments(error.problem), needed=_as_arguments(error.needed), fix=_as_arguments(error.fix)
        ) from None


def _as_arguments(text: str) -> str:
    for said, meant in _ARGUMENTS.items():
        text = re.sub(said, meant, text)
    return options_as_arguments(text, _OPTIONS)


@dataclass(frozen=True)
class Sampler:
    """Samples pictures as `ldm sample` does: the same seed gives the same picture.

    Attributes:
        config: The settings.
        known: What the model learned of its data.
        model: Its averaged weights.
    """

    config: PortableConfig
    known: Knowledge
    model: DiffusionModel

    @classmethod
    def build(cls, content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Sampler:
        """Build the model of an exported folder.

        Args:
            content: Its config.json.
            tensors: Its weights.

        Raises:
            ConfigError: The settings cannot be used.
            CheckpointError: What was learned of the data is missing.
        """
        config = validate(PortableConfig, content["settings"], source="config.json")
        known = Knowledge.from_json(content)
        model = build_model(ModelSpec(config.process, config.conditioning, config.denoiser, known.facts), seed=0)
        model.load_state_dict(dict(tensors))
        return cls(config, known, model.eval().requires_grad_(False))

    @_naming_arguments()
    def sample(
        self,
        prompts: Sequence[str],
        classes: Sequence[str | int],
        seeds: Sequence[int],
        controls: Mapping[str, Any],
        changes: Mapping[str, Any],
        *,
        height: int | None = None,
        width: int | None = None,
        negative: str | None = None,
        vae: Any = None,
        text: Any = None,
        dtype: DtypeName | None = None,
    ) -> Tensor:
        """Sample a picture for each seed and each prompt or class.

        Args:
            prompts, classes: What is shown; without any, pictures without a semantic condition.
            seeds: Of each prompt's or class's pictures.
            controls: Values of controls, such as {"size": "64x64", "dose": 10}; those that are None are not asked for.
            changes: Changed settings of sampling: steps, solver, semantic_scale, control_scale, spacing.
            height, width: Of the pictures, in pixels, both or none: a shape that the model was trained on.
            negative: A prompt that guidance leads away from.
            vae: diffusers' autoencoder; None for a model of pixels.
            text: Text models as `load_text` gives them.
            dtype: Of matrix products; None for what the model was trained in, where this machine is fast at it.

        Returns:
            Images float32 [B, C, H, W] in about [-1, 1].

        Raises:
            ConfigError: As `ldm sample`: what is asked for is unknown to the model, or has no effect.
        """
        shape = self._shape(height, width)
        facts = self.known.facts.of_shape(shape)
        asked = Asked(self.config.conditioning, facts, PIPELINE)
        asked.check_kind(prompts=bool(prompts), classes=bool(classes))
        asked.check_scales(changes.get("semantic_scale"), changes.get("control_scale"), self.config.sampling.guidance)
        where = next(self.model.parameters()).device
        kind: Any = where.type
        machine = choose_device(kind, dtype or self.config.dtype)
        self.model.compute_in(machine.compute_dtype)
        encoder = self._text_encoder(text)
        typed = control_texts(controls)
        named: Sequence[str | None] = [*prompts, *(self._class_name(one) for one in classes)] or [None]
        requests = [SampleRequest(seed, shown, typed) for shown in named for seed in seeds]
        settings = changed_settings(self.config.sampling, **changes)
        if negative is not None:
            asked.check_negative(negative, encoder, settings.guidance.semantic_scale)
        latent_size = latent_shape(self.config.autoencoder, *shape)[1:]
        generator = Generator(self.model, self._autoencoder(vae, where), self.known.stats, latent_size)
        with products_of(machine):
            inputs = build_inputs(requests, self.config.conditioning, facts, encoder)
            unwanted = None if encoder is None or negative is None else encoder.encode([negative] * len(requests))
            return generator.images(inputs, [request.seed for request in requests], settings, None, unwanted)

    def pictures(self, images: Tensor) -> list[Image.Image]:
        """Return images as the 8-bit pictures that are shown of them."""
        return [to_picture(one) for one in as_shown(to_pixels(images), self.config.display)]

    def _shape(self, height: int | None, width: int | None) -> Shape:
        if height is None and width is None:
            return self.config.shapes[0]
        if height is None or width is None:
            raise ConfigError(
                "one of height and width was given", needed=f"both, HEIGHTxWIDTH one of {listed(self.config.shapes)}"
            )
        return require_trained((height, width), self.config.shapes)

    def _class_name(self, given: str | int) -> str:
        facts = self.known.facts
        return class_at(given, facts) if isinstance(given, int) else class_at(label_of(given, facts), facts)

    def _text_encoder(self, text: Any) -> TextEncoder | None:
        semantic = self.config.conditioning.semantic
        if not isinstance(semantic, TextSemantic):
            return None
        if isinstance(semantic.encoder, WordsConfig):
            return WordsEncoder(Vocabulary(self.known.facts.words), semantic.encoder.length)
        if text is None:
            raise ConfigError("this model reads captions by text models, and none was given", needed="its text_encoder")
        encoder: TextEncoder = text
        return encoder

    def load_text(self, folders: Sequence[str]) -> TextEncoder | None:
        """Load the frozen text models from their folders, in the order of the settings; None for a model without any."""
        semantic = self.config.conditioning.semantic
        if not isinstance(semantic, TextSemantic) or isinstance(semantic.encoder, WordsConfig):
            return None
        remaining = iter(folders)
        here = {"path": "", "subfolder": "", "tokenizer_subfolder": ""}
        groups = [
            [one.model_copy(update={**here, "path": next(remaining)}) for one in group] for group in semantic.encoder.models
        ]
        where = next(self.model.parameters()).device
        config = semantic.encoder.model_copy(update={"models": tuple(tuple(group) for group in groups)})
        return HuggingFaceEncoder(config, where, choose_device("cpu", "float32").compute_dtype)

    def _autoencoder(self, network: Any, where: device) -> Autoencoder:
        config = self.config.autoencoder
        if isinstance(config, IdentityConfig):
            return IdentityAutoencoder(config.channels)
        if network is None:
            raise ConfigError("this model samples latents, and no autoencoder was given", needed="its vae")
        autoencoder: Any = Pretrained(network, config, config.factor.bit_length(), where)
        return autoencoder  # type: ignore[no-any-return]
