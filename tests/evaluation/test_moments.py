from __future__ import annotations

import numpy as np
import torch

from open_ldm.evaluation.moments import Moments
from tests.helpers import randn


def moments_of(*parts: torch.Tensor) -> Moments:
    found = Moments.empty(parts[0].shape[1])
    for part in parts:
        found.add(part)
    return found


def test_mean_and_covariance_are_numpys() -> None:
    x = randn(50, 5, seed=1) * torch.tensor([1.0, 2.0, 0.1, 5.0, 1.0]) + 3
    found = moments_of(*x.split([1, 7, 20, 22]))
    np.testing.assert_allclose(found.mean, x.double().mean(dim=0), rtol=1e-13)
    np.testing.assert_allclose(found.covariance, np.cov(x.double().numpy().T), rtol=1e-12)
    assert found.count == 50


def test_order_batches_and_processes_change_only_rounding() -> None:
    x = randn(60, 4, seed=2)
    one = moments_of(x)
    shuffled = x[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    parts = [moments_of(shuffled[:13]), moments_of(shuffled[13:20], shuffled[20:]), Moments.empty(4)]
    both = Moments.empty(4)
    for part in parts:
        both.merge(part)
    torch.testing.assert_close(both.mean, one.mean, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(both.scatter, one.scatter, rtol=1e-12, atol=1e-12)
    assert parts[0].count == 13, "merging leaves the parts as they are"


def test_large_means_lose_nothing() -> None:
    """A sum of squares would lose all digits here: 1e8 squared against a deviation of 1."""
    x = randn(400, 3, seed=3).double()
    found = moments_of(*(x + 1e8).split(16))
    torch.testing.assert_close(found.covariance, torch.cov(x.T), rtol=1e-6, atol=1e-8)
