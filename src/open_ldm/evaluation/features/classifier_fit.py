"""Train the small classifier on labelled pictures: minutes on a CPU, and the same weights every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor
from torch.nn import functional as F

from open_ldm.core import seeds
from open_ldm.core.config import Config, flattened
from open_ldm.core.errors import ConfigError, DataError, NonFiniteError, cut
from open_ldm.core.files import hash_file, write_bytes, write_json
from open_ldm.core.hashes import hash_content
from open_ldm.core.later_settings import without_defaults
from open_ldm.core.pictures import to_images
from open_ldm.core.plain_data import parse_json
from open_ldm.data.content import read_fingerprint
from open_ldm.data.holdout import HoldoutConfig, Part, select_part
from open_ldm.data.label_column import label_by
from open_ldm.data.sample import Batch, Source
from open_ldm.data.transforms import CenterCrop, LocalCrop, TransformConfig
from open_ldm.evaluation.features.base import as_seen
from open_ldm.evaluation.features.classifier import DESCRIPTION, WEIGHTS, read_description
from open_ldm.evaluation.features.fit_progress import FitProgress
from open_ldm.evaluation.features.resize import coarsened
from open_ldm.evaluation.features.small_network import SmallNetwork, SmallNetworkConfig, new_network
from open_ldm.sources.loader import read_batches

_LEAST_HELD_OUT = 10
_WEIGHT_DECAY = 0.05
_WARM_UP = 0.05
_LATER_SETTINGS = ("column", "shrunk_to_px", "bins", "by")


class FitConfig(Config):
    """`pictures`: how many are shown in all; `held_out`: share of the data kept for the accuracy; `flip`: share mirrored (0
    where left and right make a class). `column`: the attribute of the samples to be told apart; null takes their class.
    `shrunk_to_px`: half of the pictures shown are shrunk to a side between this and the network's size, log-uniform, and
    enlarged again, so that coarse pictures are recognised too; null leaves all as they are. `bins`: classes that the numbers of
    a column are divided into where it has more different ones. `by`: pictures of one value of this column are all learned from,
    or all held out, as with `data.holdout.by`."""

    network: SmallNetworkConfig = SmallNetworkConfig()
    pictures: int = Field(default=100_000, ge=1)
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    held_out: float = Field(default=0.1, gt=0, lt=1)
    flip: float = Field(default=0.5, ge=0, le=1)
    seed: int = Field(default=0, ge=0)
    column: str | None = None
    shrunk_to_px: int | None = Field(default=None, ge=1)
    bins: int = Field(default=8, ge=2)
    by: str | None = None

    @model_validator(mode="after")
    def _can_be_shrunk(self) -> FitConfig:
        if self.shrunk_to_px is not None and self.shrunk_to_px >= self.network.size_px:
            raise ValueError(f"shrunk_to_px={self.shrunk_to_px} must be below network.size_px={self.network.size_px}")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), _LATER_SETTINGS)


@dataclass(frozen=True)
class Fitted:
    """What was written: the folder, and top-1 accuracy 0..1 over `tested` held-out pictures. `was_there`: by an earlier fit."""

    folder: Path
    accuracy: float
    tested: int
    sha256: str
    was_there: bool = False


def fit(
    source: Source,
    folder: Path,
    config: FitConfig | None = None,
    *,
    device: torch.device | None = None,
    workers: int = 0,
    on_batch: Callable[[int, float], None] | None = None,
    interrupt: Callable[[], None] = lambda: None,
) -> Fitted:
    """Train on the labelled pictures of a source and write classifier.safetensors and classifier.json into `folder`.

    Pictures without a value of the column `config.column` are left out. `on_batch` gets the number of pictures shown so far and
    the loss. The same call goes on where an interrupted one stopped, to the same weights. `interrupt` is called between
    batches: a StoppedError that it raises ends the fit, which is kept as far as it is.

    Raises DataError without classes or with too few pictures.
    """
    config, device = config or FitConfig(), device or torch.device("cpu")
    labelled, centres = (source, None) if config.column is None else label_by(source, config.column, config.bins)
    train, test = _split(labelled, config)
    channels = source.summary.channels or 3
    channels = 3 if channels == 1 else channels  # grey is seen as three equal channels
    network = new_network(config.network, len(labelled.class_names), config.seed, channels).to(device)
    about = [config.model_dump(mode="json"), read_fingerprint(source), device.type, torch.__version__]
    progress = FitProgress(folder, hash_content(about), interrupt)
    _train(network, train, config, device, workers, on_batch, progress)
    accuracy = _accuracy(network.eval(), test, config, device, workers, interrupt)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes(folder / WEIGHTS, safetensors.torch.save(tensors))
    fitted = Fitted(folder, accuracy, len(test), hash_file(folder / WEIGHTS))
    description = {
        "network": config.network.model_dump(mode="json"),
        "channels": channels,
        "class_names": list(labelled.class_names),
        "accuracy": accuracy,
        "tested": len(test),
        "sha256": fitted.sha256,
        "data": read_fingerprint(source),
        "fit": config.model_dump(mode="json", exclude={"network"}),
    } | ({} if centres is None else {"centres": list(centres)})
    write_json(folder / DESCRIPTION, description)
    progress.remove()
    return fitted


def is_fitted(folder: Path, config: FitConfig) -> bool:
    """Whether `folder` holds a classifier that was fitted by these settings."""
    try:
        content = parse_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return bool(content["fit"] | {"network": content["network"]} == config.model_dump(mode="json"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def fitted_before(folder: Path, source: Source, config: FitConfig) -> Fitted | None:
    """Look for the classifier that `fit` would write.

    Args:
        folder: Where it would be.
        source: The data to learn from.
        config: The settings.

    Returns:
        The classifier that is there already; None where there is none, or a damaged one.

    Raises:
        ConfigError: The one that is there was fitted with other settings, up to three of which are named, or on other data.
    """
    try:
        there = read_description(folder)
    except ConfigError:
        return None
    before = _settings_of({**there.get("fit", {}), "network": there["network"]})
    now = _settings_of(config.model_dump(mode="json"))
    differing = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    shown = [f"{name}={cut(str(before.get(name)), 24)} (now {cut(str(now.get(name)), 24)})" for name in differing]
    if not shown and there.get("data") != read_fingerprint(source):
        shown = ["other data"]
    if shown:
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        raise ConfigError(
            f"{folder} holds a classifier fitted with {', '.join(shown[:3])}{more}",
            needed="the same settings and data to take it as it is",
            fix="choose another --out, or remove the folder",
        )
    return Fitted(folder, float(there["accuracy"]), int(there.get("tested", 0)), there["sha256"], was_there=True)


def _settings_of(written: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a description has them, those at their defaults that it leaves out too, by dotted name."""
    later = {name: FitConfig.model_fields[name].default for name in _LATER_SETTINGS}
    return flattened({**later, **written})


def _split(source: Source, config: FitConfig) -> tuple[Part, Part]:
    """Training and held-out pictures; which is which follows from the seed and a picture's id."""
    if len(source.class_names) < 2:
        raise DataError(
            f"the data has {len(source.class_names)} classes ({source.summary.sentence()})",
            needed="at least 2 to learn features from",
            fix="add labels, or measure with inception or dinov2",
        )
    own = seeds.key(config.seed, "fit features")
    try:
        train, test = _parts(source, config, config.seed if config.by is None else own)
    except DataError:  # of a part that was held out by the same seed, nothing is left to hold out again
        train, test = _parts(source, config, own)
    if len(test) < _LEAST_HELD_OUT or len(train) < config.batch_size:
        raise DataError(
            f"{len(source)} pictures: {len(train)} to learn from, {len(test)} held out",
            needed=f"at least {config.batch_size} and {_LEAST_HELD_OUT}",
        )
    return train, test


def _parts(source: Source, config: FitConfig, seed: int) -> tuple[Part, Part]:
    holdout = HoldoutConfig(share=config.held_out, seed=seed, by=config.by)
    return select_part(source, holdout, "train"), select_part(source, holdout, "held_out")


def _train(
    network: SmallNetwork,
    source: Source,
    config: FitConfig,
    device: torch.device,
    workers: int,
    on_batch: Callable[[int, float], None] | None,
    progress: FitProgress,
) -> None:
    """AdamW on cross-entropy, the learning rate rising linearly and then falling as a cosine."""
    size = config.network.size_px
    transform = TransformConfig(size_px=size, crop=LocalCrop(scale_px=round(size * 1.125)), flip=config.flip)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=_WEIGHT_DECAY)
    starts = range(0, config.pictures, config.batch_size)
    ranges = [range(start, start + config.batch_size) for start in starts]
    before = progress.restore(network, optimizer)
    for step, batch in enumerate(
        read_batches(source, transform, seed=config.seed, position_ranges=ranges[before:], workers=workers), start=before + 1
    ):
        done = step / len(ranges)
        rate = min(1.0, done / _WARM_UP) * (1 + math.cos(math.pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate
        images = as_seen(to_images(batch.pixels.to(device)))
        if config.shrunk_to_px is not None:
            images = _some_shrunk(images, config.shrunk_to_px, config.seed, step)
        loss = F.cross_entropy(network(images), _labels(batch).to(device))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteError(f"the classifier's loss is {value} at batch {step}", fix="a lower learning_rate")
        if on_batch is not None:
            on_batch(step * config.batch_size, value)
        progress.after_batch(network, optimizer, step, last=step == len(ranges))


def _some_shrunk(images: Tensor, least_px: int, seed: int, step: int) -> Tensor:
    """Images [B, C, S, S], about half of them shrunk to one side between `least_px` and S and enlarged again."""
    size = images.shape[-1]
    drawn = torch.rand(1 + len(images), generator=seeds.generator(seed, "shrunk", step))
    side = round(least_px * (size / least_px) ** float(drawn[0]))
    coarse = coarsened(images, (side, side))
    return torch.where((drawn[1:] < 0.5).to(images.device).view(-1, 1, 1, 1), coarse, images)


@torch.no_grad()
def _accuracy(
    network: SmallNetwork,
    source: Source,
    config: FitConfig,
    device: torch.device,
    workers: int,
    interrupt: Callable[[], None],
) -> float:
    """Share of pictures whose class is the most likely one."""
    transform = TransformConfig(size_px=config.network.size_px, crop=CenterCrop())
    right = 0
    for batch in _once(source, transform, config, workers):
        interrupt()
        guessed = network(as_seen(to_images(batch.pixels.to(device)))).argmax(dim=1).cpu()
        right += int((guessed == _labels(batch)).sum())
    return right / len(source)


def _once(source: Source, transform: TransformConfig, config: FitConfig, workers: int) -> Iterator[Batch]:
    length = len(source)
    ranges = [range(start, min(start + config.batch_size, length)) for start in range(0, length, config.batch_size)]
    return read_batches(source, transform, seed=config.seed, position_ranges=ranges, workers=workers)


def _labels(batch: Batch) -> torch.Tensor:
    if batch.labels is None:
        raise DataError("some pictures have no label", needed="a label for every picture to learn features from")
    return batch.labels
