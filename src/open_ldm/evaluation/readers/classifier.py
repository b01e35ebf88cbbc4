"""Reads one label off a picture, with a classifier that was fitted on real pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.pictures import to_images
from open_ldm.evaluation.features.classifier import ClassifierExtractor
from open_ldm.evaluation.readers.base import Reading


class ClassifierReaderConfig(Config):
    """The class, or another attribute of the data, that the classifier in the folder `path` was fitted on.

    `ldm evaluate fit-features DATA column=NAME shrunk_to_px=8 --out FOLDER` fits one that also reads coarse pictures.
    """

    kind: Literal["classifier"] = "classifier"
    path: Path


class ClassifierReader:
    """The most likely label; its one attribute is named like the column that it was fitted on."""

    def __init__(self, extractor: ClassifierExtractor) -> None:
        self.extractor = extractor
        self.id = extractor.id
        self.attributes: tuple[str, ...] = (extractor.column,)

    def read(self, pixels: Tensor) -> list[Reading]:
        """Read pictures uint8 [B, C, H, W]."""
        probabilities = self.extractor.extract(to_images(pixels)).probabilities
        assert probabilities is not None
        names = self.extractor.class_names
        return [{self.extractor.column: names[index]} for index in probabilities.argmax(dim=1).tolist()]
