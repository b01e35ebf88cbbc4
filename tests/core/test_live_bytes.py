"""The most bytes of tensors that lived at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from open_ldm.core.live_bytes import LiveBytes

FLOATS = 1000
BYTES = 4 * FLOATS


def test_storages_count_once_and_until_they_are_gone() -> None:
    before = torch.zeros(FLOATS)
    with LiveBytes() as live:
        one = before + 1
        assert live.most == BYTES  # what was there does not count
        part = one.view(10, 100)[2:4].t()
        one.add_(1)
        before.view(10, 100).mul_(2)
        assert live.most == BYTES
        del one
        two = before + 2
        assert live.most == 2 * BYTES  # a view keeps the whole storage
        del part, two
        three = before + 3
        four = torch.cat([three, three])
        assert live.most == 3 * BYTES and len(four) == 2 * FLOATS


@pytest.mark.parametrize("fake", [False, True])
def test_a_backward_pass_counts(fake: bool) -> None:
    def most() -> int:
        layer, given = nn.Linear(FLOATS, FLOATS, bias=False), torch.zeros(1, FLOATS)
        layer.weight.grad = torch.zeros_like(layer.weight)
        with LiveBytes() as live:
            layer(given).square().sum().backward()
        return live.most

    if fake:
        with FakeTensorMode():
            assert most() == pytest.approx(BYTES * FLOATS, rel=0.01)  # the gradient of this pass, before it is added
    else:
        assert most() == pytest.approx(BYTES * FLOATS, rel=0.01)
