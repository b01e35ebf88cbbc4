from __future__ import annotations

import torch
from tests.helpers import randn

from open_ldm.core.hashes import hash_content, hash_tensors


def test_content_is_hashed_whatever_the_order_of_keys() -> None:
    assert hash_content({"a": 1, "b": [1, 2]}) == hash_content({"b": (1, 2), "a": 1})
    assert hash_content({"a": 1}) != hash_content({"a": 1.5})


def test_tensors_are_hashed_by_name_shape_dtype_and_bits() -> None:
    tensors = {"a": randn(2, 3), "b": randn(4).bfloat16(), "c": torch.tensor(1)}
    before = hash_tensors(tensors)
    assert hash_tensors(dict(reversed(tensors.items()))) == before
    assert hash_tensors({**tensors, "a": tensors["a"].t().contiguous().t()}) == before
    for name, other in {"a": tensors["a"].reshape(3, 2), "b": tensors["b"].view(torch.int16), "c": torch.tensor(2)}.items():
        assert hash_tensors({**tensors, name: other}) != before
    assert hash_tensors({("z" if name == "a" else name): tensor for name, tensor in tensors.items()}) != before
