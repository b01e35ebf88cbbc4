"""The windowed order: exact, one for any number of processes, and sparing with shards."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from itertools import islice

import numpy as np
import pytest

from open_ldm.core.distributed import World
from open_ldm.data.order import ShuffledOrder, fixed_view
from open_ldm.data.permutation import Indices
from open_ldm.data.windowed_order import WindowedOrder
from open_ldm.training.plan import plan_batches

UNEVEN = np.array([7, 0, 30, 1, 0, 12, 50, 3, 0], dtype=np.int64)


@pytest.mark.parametrize("sizes", [UNEVEN, UNEVEN[::-1], np.full(5, 8), np.array([1]), np.array([0, 3])], ids=len)
@pytest.mark.parametrize(("streams", "window"), [(1, 1), (1, 40), (4, 6), (7, 3), (64, 8), (500, 500)])
def test_each_epoch_visits_every_sample_once(sizes: Indices, streams: int, window: int) -> None:
    order = WindowedOrder(3, sizes, streams, window)
    length = int(sizes.sum())
    for epoch in range(3):
        indices = [order.view_at(epoch * length + number).index for number in range(length)]
        assert sorted(indices) == list(range(length))
        assert [order.number_of(epoch, index) for index in indices] == list(range(length))


def test_epochs_and_seeds_give_different_orders() -> None:
    orders = [WindowedOrder(seed, np.full(20, 10), 8, 16) for seed in range(3)]
    assert len({tuple(order.index_at(epoch, i) for i in range(200)) for order in orders for epoch in range(4)}) == 12


def test_it_is_a_function_of_its_arguments_alone() -> None:
    order = WindowedOrder(1, UNEVEN, 8, 4)
    forwards = [order.view_at(position) for position in range(300)]
    copied = pickle.loads(pickle.dumps(order))
    assert [copied.view_at(position) for position in reversed(range(300))] == forwards[::-1]


def test_a_batch_comes_from_shards_all_over_the_data() -> None:
    order = WindowedOrder(0, np.full(400, 100), 256, 500)
    shards = np.array([order.index_at(0, number) // 100 for number in range(64)])
    assert len(set(shards.tolist())) > 50
    indices = np.array([order.index_at(0, number) for number in range(20_000)])
    assert abs(np.corrcoef(indices, np.arange(20_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(indices[1:], indices[:-1])[0, 1]) < 0.05


def test_fixed_views_and_their_reserves_are_those_of_the_cache() -> None:
    order = WindowedOrder(5, UNEVEN, 4, 4, views=3)
    length = order.length
    for position in range(4 * length):
        at = order.view_at(position)
        assert at == fixed_view(at.index, position // length % 3, length)
        assert order.reserve_at(at, 0) == ShuffledOrder(9, length, 3).reserve_at(at, 0)


def test_a_replacement_comes_from_the_shard_that_is_open_and_then_from_anywhere() -> None:
    order, ends = WindowedOrder(5, np.full(50, 20), 4, 30), np.arange(50) * 20
    for position in range(40):
        at = order.view_at(position)
        shard = np.searchsorted(ends, at.index, side="right")
        reserves = [order.reserve_at(at, attempt) for attempt in range(64)]
        assert all(np.searchsorted(ends, index, side="right") == shard for index in reserves[:8])
        assert len({index // 20 for index in reserves}) > 20


def opened(order: WindowedOrder | ShuffledOrder, ranks: int, batches: int, keeps: int, of: int) -> tuple[int, int]:
    """Samples read, and shards opened for them by all ranks, each of which keeps so many open; of so many samples each."""
    read = times = 0
    for rank in range(ranks):
        strided = isinstance(order, WindowedOrder)
        plan = plan_batches(512, None, World(rank, ranks), strided=strided)
        open_now: OrderedDict[int, None] = OrderedDict()
        for positions in islice(plan.ranges(0), batches):
            for position in positions:
                shard = order.view_at(position).index // of
                times += shard not in open_now
                open_now[shard] = None
                open_now.move_to_end(shard)
                if len(open_now) > keeps:
                    open_now.popitem(last=False)
                read += 1
    return read, times


def test_a_rank_opens_few_shards_and_reads_them_to_the_end() -> None:
    windowed = WindowedOrder(0, np.full(400, 100), streams=64, window=80)
    read, times = opened(windowed, ranks=32, batches=78, keeps=6, of=100)
    assert read == 512 * 78
    assert read / times > 60
    read, times = opened(ShuffledOrder(0, 40_000), ranks=32, batches=4, keeps=6, of=100)
    assert read / times < 1.1


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("micro", [None, 2])
def test_ranks_share_one_order(strided: bool, micro: int | None) -> None:
    whole = list(range(24, 72))
    found = []
    for rank in range(4):
        plan = plan_batches(24, micro, World(rank, 4), strided=strided)
        own = [position for positions in islice(plan.ranges(24), 2 * plan.micro_batches) for position in positions]
        assert own == (whole[rank::4] if strided else whole[6 * rank : 6 * rank + 6] + whole[24 + 6 * rank : 30 + 6 * rank])
        found += own
    assert sorted(found) == whole
