"""One frozen text model of transformers (CLIP, T5, BERT and the like), which turns captions into features of their tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.core.model_folders import code_allowed, content_hash, find_model_folder, own_code_error
from open_ldm.text.end_mark import require_end_mark
from open_ldm.text.tokens import TextTokens

_CLIP = ("clip", "clip_text_model")


class TextModelConfig(Config):
    """A text model with its tokenizer.

    Attributes:
        path: A folder with transformers' config.json, tokenizer files and safetensors; `package:NAME/FOLDER`, such a folder
            inside an installed package; or a hub name.
        subfolder: The folder inside `path` with the weights, e.g. `text_encoder_2`.
        tokenizer_subfolder: The folder inside `path` with the tokenizer.
        length: Number of positions per caption, including the marks of beginning and end that the tokenizer adds.
        width: Features of a token. It repeats what the model has, so that a model can be built and its parameters counted
            without loading the encoder; `pooled_width` likewise.
        layer: -1 takes the last layer after the model's final norm; -2 takes the output of the block before the last without
            that norm, as Stable Diffusion XL and 3 do with CLIP; and so on downwards.
        pooled: One vector per caption: CLIP's `eos` token after the final norm; the same `projected` into the space shared
            with pictures; or the `mean` of a caption's tokens, as sentence encoders use it.
        pooled_width: Width of a `projected` vector; the others are as wide as a token.
        attend_padding: The model itself attends to its padding, as CLIP does in Stable Diffusion and T5 in Stable Diffusion 3.
    """

    path: str
    subfolder: str = ""
    tokenizer_subfolder: str = ""
    length: int = Field(ge=1, le=4096)
    width: int = Field(ge=1)
    layer: int = Field(default=-1, le=-1)
    pooled: Literal["none", "eos", "projected", "mean"] = "none"
    pooled_width: int | None = Field(default=None, ge=1)
    attend_padding: bool = False

    @model_validator(mode="after")
    def _pooled_width_where_it_says_something(self) -> TextModelConfig:
        if self.pooled == "projected" and self.pooled_width is None:
            raise ValueError("pooled: projected needs pooled_width, the model's projection_dim")
        if self.pooled != "projected" and self.pooled_width is not None:
            raise ValueError(f"pooled_width has no effect with pooled: {self.pooled}; remove it")
        return self

    @property
    def vector(self) -> int:
        """Width of the pooled vector; 0 when there is none."""
        if self.pooled == "none":
            return 0
        return self.pooled_width or self.width


class TextModel:
    """A loaded model in eval mode, in `dtype` on `device`. Its tokens are float32."""

    def __init__(self, config: TextModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.config, self.device = config, device
        self.location = find_model_folder(config.path)
        self.tokenizer = _load_tokenizer(config, self.location)
        network = _load_network(config, self.location, dtype)
        _require_as_stated(config, network)
        if config.pooled in ("eos", "projected"):
            require_end_mark(network.config, self.tokenizer, f"text encoder {config.path!r}")
        self.network = network.to(device).eval().requires_grad_(False)

    @property
    def fingerprint(self) -> str:
        """Hash of the model's files (for a hub model its name and commit) and of the settings that change its tokens."""
        folder = Path(self.location)
        if folder.is_dir():
            parts = {folder / self.config.subfolder, folder / self.config.tokenizer_subfolder}
            content = [content_hash(part, code=code_allowed(self.config.path)) for part in sorted(parts)]
        else:
            content = [self.location, str(getattr(self.network.config, "_commit_hash", None))]
        settings = self.config.model_dump(mode="json", exclude={"path", "subfolder", "tokenizer_subfolder"})
        return hashlib.sha256(repr((content, sorted(settings.items()))).encode()).hexdigest()

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode captions as tokens [B, L, D], mask [B, L] and pooled [B, P] or None.

        The marks of beginning and end count as tokens of a caption.
        """
        tokenized = self.tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=self.config.length, return_tensors="pt"
        )
        ids, attended = tokenized["input_ids"].to(self.device), tokenized["attention_mask"].to(self.device)
        output = self.network(
            input_ids=ids,
            attention_mask=None if self.config.attend_padding else attended,
            output_hidden_states=self.config.layer != -1,
        )
        tokens = output.last_hidden_state if self.config.layer == -1 else output.hidden_states[self.config.layer]
        mask = attended.bool()
        pooled = self._pooled(output, tokens, mask)
        return TextTokens(tokens.float(), mask, None if pooled is None else pooled.float())

    def _pooled(self, output: Any, tokens: Tensor, mask: Tensor) -> Tensor | None:
        match self.config.pooled:
            case "eos":
                eos: Tensor = output.pooler_output
                return eos
            case "projected":
                projected: Tensor = output.text_embeds
                return projected
            case "mean":
                real = mask.unsqueeze(-1)
                return (tokens.float() * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
            case _:
                return None

    def cut(self, captions: Sequence[str]) -> list[bool]:
        """Return which captions have more tokens than positions."""
        if not captions:
            return []
        return [len(ids) > self.config.length for ids in self.tokenizer(list(captions), verbose=False)["input_ids"]]


def _load_tokenizer(config: TextModelConfig, location: str) -> Any:
    with _one_line_errors(config), _quiet():
        tokenizer = need("transformers", extra="text").AutoTokenizer.from_pretrained(
            location, subfolder=config.tokenizer_subfolder, trust_remote_code=code_allowed(config.path)
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"  # a caption's own tokens come first
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_network(config: TextModelConfig, location: str, dtype: torch.dtype) -> Any:
    """Load the text half of a model, from safetensors only. Raises ConfigError when it cannot be loaded or lacks weights."""
    with _one_line_errors(config), _quiet():
        network, info = _class_for(config, location).from_pretrained(
            location,
            subfolder=config.subfolder,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
            trust_remote_code=code_allowed(config.path),
        )
    # transformers fills absent weights with random numbers and only warns. BERT's own pooler is not read here.
    if missing := sorted(name for name in info["missing_keys"] if not name.startswith("pooler.")):
        raise ConfigError(
            f"text encoder {config.path!r} lacks {len(missing)} weights, {missing[0]} first",
            needed="a complete model" + (" with a projection" if config.pooled == "projected" else ""),
            fix="pooled: eos, or another model" if config.pooled == "projected" else "copy or download it again",
        )
    return network


def _class_for(config: TextModelConfig, location: str) -> Any:
    """Find the transformers class that reads captions alone: CLIP's text half, or an encoder without its decoder."""
    transformers = need("transformers", extra="text")
    settings = transformers.AutoConfig.from_pretrained(
        location, subfolder=config.subfolder, trust_remote_code=code_allowed(config.path)
    )
    clip = settings.model_type in _CLIP
    if config.pooled in ("eos", "projected") and not clip:
        raise ConfigError(
            f"text encoder {config.path!r} is a {settings.model_type} model",
            needed=f"a CLIP model for pooled: {config.pooled}",
            fix="use pooled: mean",
        )
    if clip:
        return transformers.CLIPTextModelWithProjection if config.pooled == "projected" else transformers.CLIPTextModel
    if type(settings) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING:
        return transformers.AutoModelForTextEncoding
    return transformers.AutoModel


def _require_as_stated(config: TextModelConfig, network: Any) -> None:
    """Raise ConfigError with the right values where the recipe states others than the model has."""
    has = network.config
    right: dict[str, Any] = {}
    if config.width != has.hidden_size:
        right["width"] = has.hidden_size
    if config.pooled == "projected" and config.pooled_width != has.projection_dim:
        right["pooled_width"] = has.projection_dim
    limit = _most_positions(network)
    if limit is not None and config.length > limit:
        right["length"] = f"{limit} at most"
    if -config.layer > has.num_hidden_layers + 1:
        right["layer"] = f"-{has.num_hidden_layers + 1} to -1"
    if right:
        stated = ", ".join(f"{name}={getattr(config, name)}" for name in right)
        needed = ", ".join(f"{name} {value}" for name, value in right.items())
        raise ConfigError(f"text encoder {config.path!r} does not have what the recipe states ({stated})", needed=needed)


def _most_positions(network: Any) -> int | None:
    """Find how many tokens a caption can have; None where positions have no limit.

    RoBERTa and its relatives begin to count after the index of the padding, so the first rows of the table stay unused.
    """
    rows: int | None = getattr(network.config, "max_position_embeddings", None)
    tables = (module for name, module in network.named_modules() if name.split(".")[-1] == "position_embeddings")
    unused = max((table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None), default=0)
    return None if rows is None else rows - unused


@contextmanager
def _one_line_errors(config: TextModelConfig) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        if (own := own_code_error(config.path, "text encoder", error)) is not None:
            raise own from error
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"text encoder {config.path!r} cannot be loaded ({reason[:120]})",
            needed="a folder, package:NAME/FOLDER or a reachable hub name with a transformers text model in safetensors",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars and notes; what matters is checked and raised as an error."""
    logging = need("transformers.utils.logging", extra="text")
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
