"""The shapes of a recipe's views: one, or those of its buckets, in steps that its autoencoder and its denoiser can take."""

from __future__ import annotations

from typing import Any

from open_ldm.autoencoders import AutoencoderConfig, latent_shape
from open_ldm.core.distributed import World
from open_ldm.data.bucket_order import BucketOrder
from open_ldm.data.bucket_shapes import Shape, nearest_shape
from open_ldm.data.buckets import Buckets, find_buckets
from open_ldm.data.order import Order, ShuffledOrder
from open_ldm.data.order_config import GlobalOrderConfig, WindowedOrderConfig, choose_order
from open_ldm.data.sample import Source
from open_ldm.data.transforms import TransformConfig
from open_ldm.data.windowed_order import WindowedOrder, shard_sizes
from open_ldm.denoisers import DenoiserConfig
from open_ldm.denoisers.blocks.positions import require_room


def settled_transform(transform: TransformConfig, autoencoder: AutoencoderConfig, denoiser: DenoiserConfig) -> TransformConfig:
    """Return how views are cut, with the step of buckets that the parts need."""
    return transform.in_steps(autoencoder.factor * denoiser.side_multiple)


def require_sizes(transform: TransformConfig, autoencoder: AutoencoderConfig, denoiser: DenoiserConfig) -> None:
    """Refuse views that the parts cannot take.

    Raises:
        ValueError: A side is no multiple of what the autoencoder and the denoiser need.
        ConfigError: Buckets cannot be made, or are larger than a position table of fixed size.
    """
    (height, width), side = transform.base, autoencoder.factor * denoiser.side_multiple
    if height % side or width % side:
        behind = f" behind an autoencoder of factor {autoencoder.factor}" if autoencoder.factor > 1 else ""
        raise ValueError(
            f"pictures of {height}x{width} px cannot be {denoiser.side_use}{behind};"
            f" needed: data.transform.size_px in multiples of {side}"
        )
    if transform.buckets is None:
        return
    step = transform.buckets.step_px or side
    if step % side:
        raise ValueError(f"data.transform.buckets.step_px={step}; needed: a multiple of {side}, which latents and patches need")
    positions: Any = getattr(denoiser, "positions", None)
    for shape in transform.in_steps(side).shapes:
        _, rows, columns = latent_shape(autoencoder, *shape)
        if positions is not None:
            require_room(positions, (rows // denoiser.side_multiple, columns // denoiser.side_multiple))


def require_one_shape(transform: TransformConfig, compiled: str) -> None:
    """Refuse to compile blocks where views have several shapes.

    A block is compiled for the first shape that its process meets. A run that goes on meets another one first, and would
    compute other last bits.

    Raises:
        ValueError: `training.compile` is on, and there are buckets.
    """
    if transform.buckets is not None and compiled == "on":
        raise ValueError("training.compile=on is not for data.transform.buckets; needed: training.compile=off")


def sampled_shapes(transform: TransformConfig) -> tuple[Shape, ...]:
    """Return the shapes that a model of these views samples, the one it samples by default first: that nearest to `size_px`."""
    shapes = transform.shapes or (transform.base,)
    usual = shapes[nearest_shape(transform.base, shapes)]
    return (usual, *(shape for shape in shapes if shape != usual))


def largest_shape(transform: TransformConfig) -> Shape:
    """Return the shape of most pixels, of equals the longest."""
    return max(transform.shapes or (transform.base,), key=lambda shape: (shape[0] * shape[1], max(shape)))


def buckets_of(transform: TransformConfig, source: Source, world: World | None = None) -> Buckets | None:
    """Read the sizes of a data set's pictures and find the bucket of each; None for views of one shape.

    Args:
        transform: Settled.
        source: The data set.
        world: The processes that share the reading.
    """
    if transform.buckets is None:
        return None
    return find_buckets(source, transform.shapes, transform.base, world)


def training_order(
    source: Source,
    seed: int,
    batch_size: int,
    views: int | None,
    buckets: Buckets | None,
    config: GlobalOrderConfig | WindowedOrderConfig | None,
) -> Order:
    """Return the order of a training.

    Args:
        source: The data set.
        seed: The run's seed.
        batch_size: Pictures of a global batch, which are of one bucket.
        views: Number of fixed views; None for new ones.
        buckets: The shape of each picture's views; None where all have one.
        config: Which order it is; None for what a new run of this recipe would choose.
    """
    config = choose_order(config, len(source), buckets=buckets is not None).config
    if isinstance(config, WindowedOrderConfig):
        return WindowedOrder(seed, shard_sizes(source, config.window), config.streams, config.window, views)
    if buckets is None:
        return ShuffledOrder(seed, len(source), views)
    return BucketOrder(buckets, seed, batch_size, views)
