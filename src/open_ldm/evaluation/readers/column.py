"""Reads the value of one column of metadata off a picture, with a classifier that was fitted on real pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from open_ldm.controls import Metadata
from open_ldm.core.errors import ConfigError
from open_ldm.core.pictures import to_images
from open_ldm.evaluation.features.classifier import ClassifierExtractor


class ColumnReader:
    """What a fitted classifier tells of a picture's value: a probability of each category, or the expected number.

    With probabilities p_k of the classes and their numbers c_k the expected number is sum_k p_k s(c_k), where s is the scale
    of the control. It moves smoothly between the numbers that the classifier was fitted on.

    Args:
        extractor: The classifier, fitted on this column.
        numbers: The control whose numbers are read; None reads categories.

    Raises:
        ConfigError: Numbers are to be read, and the classifier was fitted on words.
    """

    def __init__(self, extractor: ClassifierExtractor, numbers: Metadata | None) -> None:
        self.extractor, self.numbers, self.id = extractor, numbers, extractor.id
        self._centres: Tensor | None = None
        if numbers is not None:
            if extractor.centres is None:
                raise ConfigError(
                    f"the classifier was fitted on words of column {extractor.column!r}, whose numbers are to be read",
                    fix="fit it again on data in which the column holds numbers",
                )
            self._centres = torch.tensor([numbers.on_scale(one) for one in extractor.centres], dtype=torch.float64)

    @property
    def reads_numbers(self) -> bool:
        """Whether it reads one number, rather than probabilities."""
        return self._centres is not None

    def read(self, pixels: Tensor) -> Tensor:
        """Read pictures uint8 [B, C, H, W]; float64 [B, 1] for numbers, [B, categories] otherwise."""
        probabilities = self.extractor.extract(to_images(pixels)).probabilities
        assert probabilities is not None
        found = probabilities.double().cpu()
        return found if self._centres is None else (found @ self._centres).unsqueeze(1)

    def shown(self, mean: Tensor, value: str) -> float:
        """Return one number for people of a mean [D]: the number itself, or the probability of the category `value`."""
        if self.numbers is None:
            names = self.extractor.class_names
            return float(mean[names.index(value)]) if value in names else math.nan
        return math.exp(float(mean[0])) if self.numbers.scale == "log" else float(mean[0])
