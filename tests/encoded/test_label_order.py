"""A class that disappears from the data must not shift the labels of those that stay."""

from __future__ import annotations

import pytest
import torch

from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.core.errors import DataError
from open_ldm.data.sample import Batch
from open_ldm.encoded.batch import LiveEncoder
from open_ldm.encoded.labels import order_labels, vanished_classes

KNOWN = ("ant", "cat", "dog")


def test_labels_are_those_the_model_was_started_with() -> None:
    order = order_labels(KNOWN, ("dog", "ant"))
    encoder = LiveEncoder(IdentityAutoencoder(), (), torch.device("cpu"), label_order=order)
    pixels = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    encoded = encoder.encode(Batch(("a", "b", "c"), (0, 1, 2), pixels, (), torch.tensor([0, 1, 0]), None))
    assert encoded.labels is not None and encoded.labels.tolist() == [2, 0, 2]


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(DataError, match="bee"):
        order_labels(KNOWN, ("ant", "bee"))


def test_a_class_that_vanished_from_the_data_is_named() -> None:
    assert vanished_classes(KNOWN, KNOWN) == [] == vanished_classes(KNOWN, ())
    (said,) = vanished_classes(KNOWN, KNOWN[:-1])
    assert said == f"the data has no picture any more of class {KNOWN[-1]}, which the run goes on knowing"
    assert vanished_classes([f"c{number}" for number in range(9)], ["c0"])[0].count("c") >= 5
