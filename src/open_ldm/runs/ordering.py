"""The order of a run's samples: chosen when it begins, kept in its recipe, and told on the first screen."""

from __future__ import annotations

from dataclasses import dataclass

from open_ldm.data.buckets import Buckets
from open_ldm.data.order import Order, ShuffledOrder
from open_ldm.data.order_config import ChosenOrder, choose_order
from open_ldm.data.sample import Source
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.shapes import training_order

_BATCHES = 8
_MOST_PICTURES = 8192


def settle_order(recipe: Recipe, source: Source, *, begun: bool) -> tuple[Recipe, ChosenOrder]:
    """Fill in the order that a recipe leaves open, by the number of samples; a run that goes on has one already.

    Args:
        recipe: Settled in all else.
        source: What it trains on.
        begun: Whether the run goes on.
    """
    chosen = choose_order(recipe.data.order, len(source), buckets=recipe.transform.buckets is not None, begun=begun)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"order": chosen.config})}), chosen


def order_of(recipe: Recipe, source: Source, buckets: Buckets | None) -> Order:
    """Return the order of a recipe's training.

    Args:
        recipe: Its order is settled, or is what a new run would choose.
        source: What it trains on.
        buckets: The shape of each picture's views; None where all have one.
    """
    training, data = recipe.training, recipe.data
    return training_order(source, training.seed, training.batch_size, data.views, buckets, data.order)


@dataclass(frozen=True)
class OrderTold:
    """What the first screen says of a run's order."""

    windowed: bool
    sentence: str


def tell_order(recipe: Recipe, source: Source, chosen: ChosenOrder) -> OrderTold:
    """Say which order a run reads its samples in, and why; of a windowed one, how many classes its first batches mix.

    Args:
        recipe: Its order is settled.
        source: What it trains on; labels are read of no more than some thousand samples.
        chosen: The order.
    """
    balance = _balance(recipe, source) if chosen.windowed and source.class_names else ""
    return OrderTold(chosen.windowed, chosen.sentence() + balance)


def _balance(recipe: Recipe, source: Source) -> str:
    batch = recipe.training.batch_size
    batches = max(1, min(_BATCHES, _MOST_PICTURES // batch))
    orders = (order_of(recipe, source, None), ShuffledOrder(recipe.training.seed, len(source)))
    ours, theirs = (_classes_in_a_batch(order, source, batch, batches) for order in orders)
    return f"; a batch of {batch:,} shows {ours:.1f} of {len(source.class_names):,} classes, in global order {theirs:.1f}"


def _classes_in_a_batch(order: Order, source: Source, batch: int, batches: int) -> float:
    """Mean number of distinct classes in the first batches."""
    counts = []
    for start in range(0, batch * batches, batch):
        labels = {source.label_of(order.view_at(position).index) for position in range(start, start + batch)}
        counts.append(len(labels - {None}))
    return sum(counts) / len(counts)
